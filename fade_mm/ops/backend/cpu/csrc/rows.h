// Rows of tensors of any dtype and strides, in the type that is computed in.
//
// What must hold:
// - Tensors that are read may overlap each other. One that is written overlaps no other, nor does
//   one of its points another, and no scratch memory overlaps a tensor.
// - Rows in place are the tensor itself: those of `view_rows` are only read, and what is written to
//   `rows_in_place` is the result. Whether rows are in place depends on the tensor alone, so all
//   who ask about the same one get the same answer, `store_spare` included.
// - A tensor that is absent is never in place. What is stored to it is dropped, and it is not read.
// - Who writes rows owns the points; nothing is read from a tensor that is written.
#pragma once

#include "vectors.h"

namespace fade_mm {
namespace {

constexpr int64_t kStreamed = 4 << 20;  // bytes of a result that no cache is to keep

inline float widen(const uint16_t x) {  // of bfloat16
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}
inline float widen(const float x) { return x; }
inline double widen(const double x) { return x; }

template <class D, class T>
inline D narrow(T x) {
  return static_cast<D>(x);
}
template <>
inline uint16_t narrow<uint16_t, float>(float x) {  // to bfloat16, to the nearest, ties to even
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  if (x != x) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
template <>
inline uint16_t narrow<uint16_t, double>(double x) {
  return narrow<uint16_t>(static_cast<float>(x));
}

inline int64_t offset(const View& x, int64_t n, int64_t c, int64_t row, int64_t col) {
  return n * x.stride[0] + c * x.stride[1] + row * x.stride[2] + col * x.stride[3];
}

// Rows of several channels, `stride` apart.
template <class T>
struct RowsOf {
  T* data;
  int64_t stride;
  T* operator[](int64_t c) const { return data + c * stride; }
};

// Where the columns of a row lie apart, as with channels last, point by point: row by row, each
// cache line would be fetched once per channel.
template <class S, class T>
inline void load_as(const S* from, int64_t channel_stride, int64_t stride, int64_t channels,
                    int64_t count, RowsOf<T> to) {
  if (stride == 1) {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t j = 0; j < count; ++j)
        to[c][j] = static_cast<T>(widen(from[c * channel_stride + j]));
  } else {
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < channels; ++c)
        to[c][j] = static_cast<T>(widen(from[c * channel_stride + j * stride]));
  }
}
template <class S, class T>
inline void store_as(RowsOf<T> from, int64_t channel_stride, int64_t stride, int64_t channels,
                     int64_t count, S* to) {
  if (stride == 1) {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t j = 0; j < count; ++j) to[c * channel_stride + j] = narrow<S>(from[c][j]);
  } else {
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < channels; ++c)
        to[c * channel_stride + j * stride] = narrow<S>(from[c][j]);
  }
}

// `count` values of a row of each of the channels [c, c + channels), converted.
template <class T>
inline void load_rows(const View& x, int64_t n, int64_t c, int64_t channels, int64_t row,
                      int64_t col, int64_t count, RowsOf<T> to) {
  const auto load_from = [&](const auto* data) {
    load_as(data + offset(x, n, c, row, col), x.stride[1], x.stride[3], channels, count, to);
  };
  switch (x.dtype) {
    case DType::kFloat: return load_from(static_cast<const float*>(x.data));
    case DType::kDouble: return load_from(static_cast<const double*>(x.data));
    case DType::kBFloat16: return load_from(static_cast<const uint16_t*>(x.data));
  }
}
template <class T>
inline void store_rows(RowsOf<T> from, const View& x, int64_t n, int64_t c, int64_t channels,
                       int64_t row, int64_t col, int64_t count) {
  if (!x.data) return;
  const auto store_to = [&](auto* data) {
    store_as(from, x.stride[1], x.stride[3], channels, count, data + offset(x, n, c, row, col));
  };
  switch (x.dtype) {
    case DType::kFloat: return store_to(static_cast<float*>(x.data));
    case DType::kDouble: return store_to(static_cast<double*>(x.data));
    case DType::kBFloat16: return store_to(static_cast<uint16_t*>(x.data));
  }
}

inline bool is(const View& x, float) { return x.dtype == DType::kFloat; }
inline bool is(const View& x, double) { return x.dtype == DType::kDouble; }

// Rows in place where they are contiguous and of type T, else `spare`.
template <class T>
inline RowsOf<T> rows_in_place(const View& x, int64_t n, int64_t c, int64_t row, int64_t col,
                               RowsOf<T> spare) {
  if (!is(x, T()) || x.stride[3] != 1) return spare;
  return {static_cast<T*>(x.data) + offset(x, n, c, row, col), x.stride[1]};
}
// Rows in place, or else loaded into `spare`.
template <class T>
inline RowsOf<T> view_rows(const View& x, int64_t n, int64_t c, int64_t channels, int64_t row,
                           int64_t col, int64_t count, RowsOf<T> spare) {
  const RowsOf<T> place = rows_in_place(x, n, c, row, col, spare);
  if (place.data == spare.data) load_rows(x, n, c, channels, row, col, count, spare);
  return place;
}
// Whether the rows of a result of the output's size are in place and so large that they are to be
// streamed.
template <class T>
inline bool is_streamed(const Problem& p, const View& x) {
  return is(x, T()) && x.stride[3] == 1 &&
         p.batch * p.channels * p.height * p.width * int64_t(sizeof(T)) >= kStreamed;
}
// The end of writing to `rows_in_place`.
template <class T>
inline void store_spare(RowsOf<T> spare, const View& x, int64_t n, int64_t c, int64_t channels,
                        int64_t row, int64_t col, int64_t count) {
  if (rows_in_place(x, n, c, row, col, spare).data == spare.data)
    store_rows(spare, x, n, c, channels, row, col, count);
}

// Ask for a row before it is needed: short rows far apart escape the hardware's prefetcher. Into the
// second-level cache, since rows of many channels may fall on the same lines of the first.
inline void prefetch_row(const View& x, int64_t n, int64_t c, int64_t row, int64_t col,
                         int64_t count) {
  if (!x.data || x.stride[3] != 1) return;
  const int64_t size = x.dtype == DType::kFloat ? 4 : x.dtype == DType::kDouble ? 8 : 2;
  const char* begin = static_cast<const char*>(x.data) + offset(x, n, c, row, col) * size;
  for (int64_t i = 0; i < count * size; i += 64) __builtin_prefetch(begin + i, 0, 2);
}

}  // namespace
}  // namespace fade_mm
