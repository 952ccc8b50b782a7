// The kernels, in vectors of VECTOR_BYTES. Each kernel_*.cpp compiles this file for one instruction
// set; everything is internal to it and no header is used but the compiler's of intrinsics, which are
// always inlined, so that no function compiled for a newer instruction set can be linked in place of
// a common one.
//
// The output is cut into its sub-pixel phases: the points of a low-resolution row's output rows that
// have the same row and column remainder. All phases of a low-resolution point (a "cell") read the
// same K x K neighbourhood, and along a row of cells neighbouring points are neighbours in memory.
// So a tile goes through its rows of cells in bands of a few and a band through the channels in
// chunks, and keeps, in buffers that fit into the cache,
//   - what the band reads of a chunk of `de`, zero-padded,    window[row][channel][cell]
//   - the kernels of each of its rows,                        kernels[phase][tap][cell]
// and every load of a row serves all the phases, every load of a kernel several channels. A band
// visits each page of a feature once, in stretches long enough for the hardware to fetch ahead.
// Where `width` exceeds low_width * step, the columns left over are phases of the last cell alone.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernel.h"

#ifndef VECTOR_BYTES
#error "define VECTOR_BYTES before including this file"
#endif

namespace fade_mm {
namespace {

// The same size and byte width of vector for every lane type; unaligned loads and stores.
template <class T>
struct Lanes;
#define FADE_MM_LANES(T, I)                                                        \
  template <>                                                                      \
  struct Lanes<T> {                                                                \
    typedef T V __attribute__((vector_size(VECTOR_BYTES)));                        \
    typedef I Int __attribute__((vector_size(VECTOR_BYTES)));                      \
    typedef T Loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias)); \
  };
FADE_MM_LANES(float, int32_t)
FADE_MM_LANES(double, int64_t)
#undef FADE_MM_LANES

template <class T>
using V = typename Lanes<T>::V;
template <class T>
constexpr int64_t kLanes = VECTOR_BYTES / sizeof(T);

template <class T>
inline V<T> load(const T* p) {
  return *reinterpret_cast<const typename Lanes<T>::Loose*>(p);
}
template <class T>
inline void store(T* p, V<T> x) {
  *reinterpret_cast<typename Lanes<T>::Loose*>(p) = x;
}

// Store past the cache, which then need not fetch what is overwritten; `p` must be aligned.
template <class T>
inline void stream(T* p, V<T> x) {
#if VECTOR_BYTES == 64
  _mm512_stream_ps(reinterpret_cast<float*>(p), (__m512)x);
#elif defined(__AVX__)
  _mm256_stream_ps(reinterpret_cast<float*>(p), (__m256)x);
#elif defined(__SSE2__)
  _mm_stream_ps(reinterpret_cast<float*>(p), (__m128)x);
#else
  store(p, x);
#endif
}

// Before other threads may look at what was streamed.
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Call f(j, write) for the vectors of a row of results, where write(to + j, x) streams or stores.
template <class T, class F>
inline int64_t in_vectors(const T* to, int64_t count, bool streamed, F f) {
  const int64_t whole = count / kLanes<T> * kLanes<T>;
  if (streamed && reinterpret_cast<uintptr_t>(to) % VECTOR_BYTES == 0)
    for (int64_t j = 0; j < whole; j += kLanes<T>) f(j, [](T* p, V<T> x) { stream(p, x); });
  else
    for (int64_t j = 0; j < whole; j += kLanes<T>) f(j, [](T* p, V<T> x) { store(p, x); });
  return whole;
}

// Registers decide how many accumulators a block may have: 32 with AVX-512 and on Arm, else 16.
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kMaxPhases = 4;       // phases that share a load of a row
constexpr int kGatherChannels = 4;  // channels that share a load of a kernel, backward
#else
constexpr int kMaxPhases = 2;
constexpr int kGatherChannels = 2;
#endif
constexpr int kReassembled = 4;    // channels that share a load of a kernel, forward
constexpr int64_t kChunk = 16;     // channels
constexpr int64_t kPage = 4096;    // bytes that a band visits of a channel
constexpr int64_t kMinBand = 4;    // rows of cells; shorter bands read `de` too often
constexpr int64_t kStreamed = 4 << 20;  // bytes of a result that no cache is to keep

inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// exp to the last bits of T, for finite x clamped to where the result is normal; NaN stays NaN.
inline V<float> exp(V<float> x) {
  const V<float> low = V<float>{} - 87.0f, high = V<float>{} + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const V<float> magic = V<float>{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const V<float> shifted = x * 1.44269504f + magic;
  const V<float> n = shifted - magic;
  const V<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V<float> p = V<float>{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  typedef Lanes<float>::Int Int;
  const Int power = ((Int)shifted - (Int)magic + 127) << 23;
  return p * (V<float>)power;
}
inline V<double> exp(V<double> x) {
  for (int64_t i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

// --- Rows of tensors of any dtype and strides ---------------------------------------------------

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

// --- Geometry -------------------------------------------------------------------------------------

// The cells whose output points a tile looks at, as buffers hold them. Forward looks at the tile's
// own cells; backward's gradient of `de` also at those around.
template <class T>
struct Cells {
  int64_t step, kernel_size, taps, radius;
  int64_t left;         // the low-resolution column of buffers' cell 0; may lie outside
  int64_t first, last;  // the cells [first, last) lie inside of the feature
  int64_t stride;       // cells of a buffer's row, a multiple of the vector
  int64_t column;       // the output column where cell `first` begins
  int64_t main, over;   // output columns: of all cells; left over for the last cell
  int64_t max_rows;     // output rows of a low-resolution row, at most

  Cells(const Problem& p, int64_t left, int64_t right, int64_t halo)
      : step(p.step), kernel_size(p.kernel_size), taps(kernel_size * kernel_size),
        radius(kernel_size / 2), left(left - halo) {
    const int64_t begin = max(left - halo, 0), end = min(right + halo, p.low_width);
    first = begin - this->left;
    last = end - this->left;
    stride = stride_of(right - left, halo);
    column = begin * step;
    main = min(end * step, p.width) - column;
    over = end == p.low_width ? max(p.width - end * step, 0) : 0;
    max_rows = max_rows_of(p);
  }

  // Room for loads of whole vectors that begin at any cell, and at any tap from there.
  static int64_t stride_of(int64_t columns, int64_t halo) {
    return round_up(columns, kLanes<T>) + round_up(2 * halo, kLanes<T>);
  }
  static int64_t max_rows_of(const Problem& p) {
    return max(p.step, p.height - (p.low_height - 1) * p.step);
  }
  // Phases: first those of all cells, row by row, then those of the last cell alone.
  static int64_t phases_of(const Problem& p) {
    const int64_t over = max(p.width - p.low_width * p.step, 0);
    return max_rows_of(p) * (p.step + over);
  }

  int64_t columns() const { return main + over; }
  int64_t phase(int64_t row, int64_t remainder) const { return row * step + remainder; }
  int64_t over_phase(int64_t row, int64_t i) const { return max_rows * step + row * over + i; }

  // From a row of output points to its phases, which begin `phase_stride` apart.
  void split(const T* from, int64_t row, T* phases, int64_t phase_stride) const {
    T* to = phases + phase(row, 0) * phase_stride + first;
    if (step == 1) {
      for (int64_t j = 0; j < main; ++j) to[j] = from[j];
    } else if (step == 2) {
      const int64_t pairs = main / 2;
      split_pairs(from, pairs, to, to + phase_stride);
      if (main % 2) to[pairs] = from[2 * pairs];
    } else {
      for (int64_t r = 0; r < step; ++r)
        for (int64_t x = 0; x * step + r < main; ++x)
          to[r * phase_stride + x] = from[x * step + r];
    }
    for (int64_t i = 0; i < over; ++i)
      phases[over_phase(row, i) * phase_stride + last - 1] = from[main + i];
  }

  static void split_pairs(const T* __restrict from, int64_t count, T* __restrict even,
                          T* __restrict odd) {
    for (int64_t x = 0; x < count; ++x) {
      even[x] = from[2 * x];
      odd[x] = from[2 * x + 1];
    }
  }
  static void join_pairs(const T* __restrict even, const T* __restrict odd, int64_t count,
                         T* __restrict to) {
    for (int64_t x = 0; x < count; ++x) {
      to[2 * x] = even[x];
      to[2 * x + 1] = odd[x];
    }
  }

  // And back.
  void join(const T* phases, int64_t phase_stride, int64_t row, T* to) const {
    const T* from = phases + phase(row, 0) * phase_stride + first;
    if (step == 1) {
      for (int64_t j = 0; j < main; ++j) to[j] = from[j];
    } else if (step == 2) {
      const int64_t pairs = main / 2;
      join_pairs(from, from + phase_stride, pairs, to);
      if (main % 2) to[2 * pairs] = from[pairs];
    } else {
      for (int64_t r = 0; r < step; ++r)
        for (int64_t x = 0; x * step + r < main; ++x)
          to[x * step + r] = from[r * phase_stride + x];
    }
    for (int64_t i = 0; i < over; ++i)
      to[main + i] = phases[over_phase(row, i) * phase_stride + last - 1];
  }

  // Repeat a value per cell for each of its output columns.
  void repeat(const T* cells, T* to) const {
    for (int64_t j = 0; j < main; ++j) to[j] = cells[first + j / step];
    for (int64_t i = 0; i < over; ++i) to[main + i] = cells[last - 1];
  }

  // Call f(phase, phases, cell) for the runs of phases of `rows` output rows, and the first cell
  // that they concern when the cells are taken in vectors from cell `begin`.
  template <class F>
  void for_runs(int64_t rows, int64_t begin, F f) const {
    f(int64_t(0), rows * step, begin);
    if (over && last - 1 >= begin)
      f(over_phase(0, 0), rows * over, begin + (last - 1 - begin) / kLanes<T> * kLanes<T>);
  }

  // Clear what was computed in the vectors of `for_runs` for cells where a phase has no point, in
  // values[phase][tap][cell]: not even NaN may spread from there. The last cell lacks the columns
  // that rounding up added; phases left over are those of the last cell alone.
  void clear_absent(T* values, int64_t rows, int64_t tap_stride) const {
    const auto clear = [&](int64_t phase, int64_t cell) {
      T* to = values + phase * taps * tap_stride + cell;
      for (int64_t t = 0; t < taps; ++t) to[t * tap_stride] = 0;
    };
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t r = main % step; r && r < step; ++r) clear(phase(i, r), last - 1);
      for (int64_t o = 0; o < over; ++o)
        for (int64_t k = (last - 1) / kLanes<T> * kLanes<T>; k < last - 1; ++k)
          clear(over_phase(i, o), k);
    }
  }
};

// Output rows [begin, end) that read around a low-resolution row.
struct Rows {
  int64_t begin, end;
  Rows(const Problem& p, int64_t low)
      : begin(low * p.step),
        end(low == p.low_height - 1 ? p.height : min((low + 1) * p.step, p.height)) {}
  int64_t count() const { return end - begin; }
};

// Hands out aligned pieces of a tile's scratch memory, zeroed; or, of null, only adds them up.
template <class T>
struct Scratch {
  T* next;
  const int64_t size;
  int64_t used = 0;
  Scratch(T* memory, int64_t size) : next(memory), size(size) {}
  T* take(int64_t count) {
    count = round_up(count, 64 / sizeof(T));
    used += count;
    if (!next) return nullptr;
    if (used > size) __builtin_trap();
    T* piece = next;
    __builtin_memset(piece, 0, count * sizeof(T));
    next += count;
    return piece;
  }
};

// --- What forward and backward share ----------------------------------------------------------------

// How many rows of cells a tile computes together; the same for every tile, since a narrow one with
// more rows would need more memory than the widest.
template <class T>
int64_t band_of(const Problem& p) {
  const int64_t rows = kPage / (p.step * p.step * p.columns * int64_t(sizeof(T)));
  return min(max(rows, kMinBand), p.low_height);
}

// What a band reads of a chunk of `de`.
template <class T>
struct Window {
  int64_t radius, stride, row_stride;
  T* memory;

  Window(const Problem& p, int64_t columns, int64_t band, Scratch<T>& scratch)
      : radius(p.kernel_size / 2),
        stride(round_up(columns, kLanes<T>) + round_up(p.kernel_size - 1, kLanes<T>)),
        row_stride(kChunk * stride),
        memory(scratch.take((band + p.kernel_size - 1) * row_stride)) {}

  // The first row that row `r` of the band reads.
  const T* row(int64_t r) const { return memory + r * row_stride; }

  // For the rows [top, bottom) of cells: zero outside of the feature.
  void fill(const Problem& p, const Tile& tile, int64_t channel, int64_t channels, int64_t top,
            int64_t bottom) const {
    const int64_t begin = max(tile.left - radius, 0), end = min(tile.right + radius, p.low_width);
    T* to = memory;
    for (int64_t low = top - radius; low < bottom + radius; ++low, to += row_stride)
      if (low < 0 || low >= p.low_height)
        __builtin_memset(to, 0, row_stride * sizeof(T));
      else
        load_rows<T>(p.de, tile.item, channel, channels, low, begin, end - begin,
                     {to + begin - (tile.left - radius), stride});
  }
};

// The kernels and the gate of the rows of a band.
template <class T>
struct Kernel {
  const int64_t taps, stride, width, size;  // stride and size: of a tap's cells, of a row
  T* kernels;       // [row][phase][tap][cell]
  T* gates;         // [row][cell]
  T* gate_rows;     // [row][output column]
  T* logits_de;     // [tap][cell]
  RowsOf<T> spare;  // [tap][output column]

  Kernel(const Problem& p, int64_t columns, int64_t halo, int64_t band, Scratch<T>& scratch)
      : taps(p.kernel_size * p.kernel_size), stride(Cells<T>::stride_of(columns, halo)),
        width(width_of(p, columns, halo)), size(Cells<T>::phases_of(p) * taps * stride),
        kernels(scratch.take(band * size)), gates(scratch.take(band * stride)),
        gate_rows(scratch.take(band * width)), logits_de(scratch.take(taps * stride)),
        spare{scratch.take(taps * width), width} {}

  // Room for the output columns of a tile.
  static int64_t width_of(const Problem& p, int64_t columns, int64_t halo) {
    return (columns + 2 * halo) * p.step + max(p.width - p.low_width * p.step, 0) + kLanes<T>;
  }

  T* of(int64_t r) const { return kernels + r * size; }
  T* gate(int64_t r) const { return gates + r * stride; }
  T* gate_row(int64_t r) const { return gate_rows + r * width; }

  // Row `r` of the band, row `low` of the feature.
  void fill(const Problem& p, const Cells<T>& cells, int64_t item, int64_t low, int64_t r) const {
    const Rows rows(p, low);
    const int64_t column = cells.left + cells.first, count = cells.last - cells.first;
    if (p.logits_de.data)
      load_rows<T>(p.logits_de, item, 0, taps, low, column, count,
                   {logits_de + cells.first, stride});
    for (int64_t i = 0; i < rows.count(); ++i) {
      const auto logits = view_rows(p.logits, item, 0, taps, rows.begin + i, cells.column,
                                    cells.columns(), spare);
      for (int64_t t = 0; t < taps; ++t)
        cells.split(logits[t], i, of(r) + t * stride, taps * stride);
    }
    if (p.softmax || p.logits_de.data) {
      const auto finish = p.softmax ? softmax : add;
      cells.for_runs(rows.count(), 0, [&](int64_t phase, int64_t phases, int64_t cell) {
        for (int64_t i = phase; i < phase + phases; ++i)
          for (int64_t k = cell; k < stride; k += kLanes<T>)
            finish(of(r) + i * taps * stride + k, taps, stride, logits_de + k);
      });
      cells.clear_absent(of(r), rows.count(), stride);
    }
    if (p.gate.data) {
      T* to = gate(r);
      load_rows<T>(p.gate, item, 0, 1, low, column, count, {to + cells.first, stride});
      for (int64_t k = 0; k < stride; k += kLanes<T>) store(to + k, 1 / (1 + exp(-load(to + k))));
      cells.repeat(to, gate_row(r));
    }
  }

  static void add(T* kernels, int64_t taps, int64_t stride, const T* more) {
    for (int64_t t = 0; t < taps; ++t)
      store(kernels + t * stride, load(kernels + t * stride) + load(more + t * stride));
  }

  static void softmax(T* logits, int64_t taps, int64_t stride, const T* more) {
    V<T> top = load(logits) + load(more);
    store(logits, top);
    for (int64_t t = 1; t < taps; ++t) {
      const V<T> x = load(logits + t * stride) + load(more + t * stride);
      store(logits + t * stride, x);
      top = x > top ? x : top;
    }
    V<T> sum = {};
    for (int64_t t = 0; t < taps; ++t) {
      const V<T> x = exp(load(logits + t * stride) - top);
      store(logits + t * stride, x);
      sum += x;
    }
    const V<T> scale = 1 / sum;
    for (int64_t t = 0; t < taps; ++t) store(logits + t * stride, load(logits + t * stride) * scale);
  }
};

template <int N>
struct Constant {
  static constexpr int value = N;
};

// Call f(i, Constant<N>()) for [begin, end) in blocks of N = Max, and of N / 2, ... at the end.
template <int Max, class F>
inline void in_blocks(int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + Max <= end; i += Max) f(i, Constant<Max>());
  if constexpr (Max > 1) in_blocks<Max / 2>(i, end, f);
}

// --- Forward ------------------------------------------------------------------------------------

// One vector of cells, for C channels and P phases: the sum over the taps of kernel times row.
template <class T, int C, int P>
inline void reassemble(const T* window, int64_t row_stride, int64_t window_stride, const T* kernels,
                       int64_t kernel_size, int64_t tap_stride, T* y, int64_t channel_stride,
                       int64_t phase_stride) {
  const int64_t taps = kernel_size * kernel_size;
  V<T> sum[P][C];
  for (int i = 0; i < P; ++i)
    for (int c = 0; c < C; ++c) sum[i][c] = V<T>{};
  for (int64_t u = 0, tap = 0; u < kernel_size; ++u)
    for (int64_t v = 0; v < kernel_size; ++v, ++tap) {
      V<T> x[C];
      for (int c = 0; c < C; ++c) x[c] = load(window + u * row_stride + c * window_stride + v);
      for (int i = 0; i < P; ++i) {
        const V<T> kernel = load(kernels + (i * taps + tap) * tap_stride);
        for (int c = 0; c < C; ++c) sum[i][c] += kernel * x[c];
      }
    }
  for (int i = 0; i < P; ++i)
    for (int c = 0; c < C; ++c) store(y + i * phase_stride + c * channel_stride, sum[i][c]);
}

template <class T>
struct Forward {
  const int64_t band;
  const bool streamed;
  Window<T> window;
  Kernel<T> kernel;
  const int64_t stride, phase_stride;
  T* y;       // [phase][channel][cell]
  T* joined;  // [output column]
  T* en;      // [output row][channel][output column]
  T* out;     // the same

  Forward(const Problem& p, int64_t columns, Scratch<T>& scratch)
      : band(band_of<T>(p)), streamed(is_streamed<T>(p, p.out)),
        window(p, columns, band, scratch), kernel(p, columns, 0, band, scratch),
        stride(kernel.stride), phase_stride(kReassembled * stride),
        y(scratch.take(Cells<T>::phases_of(p) * phase_stride)),
        joined(scratch.take(kernel.width)),
        en(scratch.take(Cells<T>::max_rows_of(p) * kChunk * kernel.width)),
        out(scratch.take(Cells<T>::max_rows_of(p) * kChunk * kernel.width)) {}

  void run(const Problem& p, const Tile& tile) const {
    const Cells<T> cells(p, tile.left, tile.right, 0);
    for (int64_t top = tile.top; top < tile.bottom; top += band) {
      const int64_t bottom = min(top + band, tile.bottom);
      for (int64_t low = top; low < bottom; ++low)
        kernel.fill(p, cells, tile.item, low, low - top);
      for (int64_t channel = 0; channel < p.channels; channel += kChunk) {
        const int64_t channels = min(kChunk, p.channels - channel);
        window.fill(p, tile, channel, channels, top, bottom);
        for (int64_t low = top; low < bottom; ++low) {
          const bool last = low + 1 == bottom;
          add_row(p, tile.item, cells, low, low - top, channel, channels,
                  last ? top : low + 1, last ? channel + kChunk : channel);
        }
      }
    }
    finish_streams();
  }

  // A chunk of the output rows around a row of cells; `next` is what comes after it.
  void add_row(const Problem& p, int64_t item, const Cells<T>& cells, int64_t low, int64_t r,
               int64_t channel, int64_t channels, int64_t next_low, int64_t next_channel) const {
    const Rows rows(p, low), next(p, next_low);
    const int64_t count = cells.columns();
    if (p.gate.data)
      for (int64_t i = 0; i < rows.count(); ++i)
        view_rows(p.en, item, channel, channels, rows.begin + i, cells.column, count, spare(en, i));
    for (int64_t c = 0; c < channels; c += kReassembled) {
      const int64_t end = min(c + kReassembled, channels);
      for (int64_t a = next_channel + c; a < min(next_channel + end, p.channels); ++a)
        for (int64_t i = next.begin; i < next.end; ++i) {
          prefetch_row(p.en, item, a, i, cells.column, count);
          if (!streamed) prefetch_row(p.out, item, a, i, cells.column, count);
        }
      cells.for_runs(rows.count(), 0, [&](int64_t phase, int64_t phases, int64_t cell) {
        for (int64_t k = cell; k < stride; k += kLanes<T>)
          in_blocks<kMaxPhases>(phase, phase + phases, [&](int64_t i, auto block) {
            reassemble<T, kReassembled, block.value>(
                window.row(r) + c * window.stride + k, window.row_stride, window.stride,
                kernel.of(r) + i * cells.taps * stride + k, cells.kernel_size, stride,
                y + i * phase_stride + k, stride, phase_stride);
          });
      });
      for (int64_t i = 0; i < rows.count(); ++i) {
        const int64_t at = rows.begin + i;
        const auto to = rows_in_place(p.out, item, channel, at, cells.column, spare(out, i));
        const auto from = rows_in_place(p.en, item, channel, at, cells.column, spare(en, i));
        for (int64_t a = c; a < end; ++a) {
          cells.join(y + (a - c) * stride, phase_stride, i, joined);
          if (p.gate.data)
            blend(joined, from[a], kernel.gate_row(r), count, streamed, to[a]);
          else
            copy(joined, count, streamed, to[a]);
        }
      }
    }
    for (int64_t i = 0; i < rows.count(); ++i)
      store_spare(spare(out, i), p.out, item, channel, channels, rows.begin + i, cells.column,
                  count);
  }

  // The rows of a chunk, of output row `i`.
  RowsOf<T> spare(T* memory, int64_t i) const {
    return {memory + i * kChunk * kernel.width, kernel.width};
  }

  static void blend(const T* __restrict y, const T* __restrict en, const T* __restrict gate,
                    int64_t count, bool streamed, T* __restrict to) {
    int64_t j = in_vectors(to, count, streamed, [&](int64_t i, auto write) {
      const V<T> g = load(gate + i);
      write(to + i, load(y + i) * (1 - g) + load(en + i) * g);
    });
    for (; j < count; ++j) to[j] = y[j] * (1 - gate[j]) + en[j] * gate[j];
  }

  static void copy(const T* __restrict from, int64_t count, bool streamed, T* __restrict to) {
    int64_t j = in_vectors(to, count, streamed,
                           [&](int64_t i, auto write) { write(to + i, load(from + i)); });
    for (; j < count; ++j) to[j] = from[j];
  }
};

// --- Backward -----------------------------------------------------------------------------------

// One vector of cells: the gradient of P phases' kernels at W neighbouring taps, added up over the
// channels.
template <class T, int W, int P>
inline void correlate(const T* grad, int64_t phase_stride, int64_t channel_stride, const T* row,
                      int64_t row_stride, int64_t channels, T* grad_kernels, int64_t kernel_stride,
                      int64_t tap_stride) {
  V<T> sum[P][W];
  for (int i = 0; i < P; ++i)
    for (int v = 0; v < W; ++v) sum[i][v] = load(grad_kernels + i * kernel_stride + v * tap_stride);
  for (int64_t c = 0; c < channels; ++c) {
    V<T> g[P];
    for (int i = 0; i < P; ++i) g[i] = load(grad + i * phase_stride + c * channel_stride);
    for (int v = 0; v < W; ++v) {
      const V<T> x = load(row + c * row_stride + v);
      for (int i = 0; i < P; ++i) sum[i][v] += g[i] * x;
    }
  }
  for (int i = 0; i < P; ++i)
    for (int v = 0; v < W; ++v) store(grad_kernels + i * kernel_stride + v * tap_stride, sum[i][v]);
}

// One vector of cells: the gradient of `de` at C channels and U rows around, gathered from `phases`
// phases of one row of cells.
template <class T, int C, int U>
inline void gather(const T* kernels, int64_t kernel_size, int64_t tap_stride, const T* grad,
                   int64_t phase_stride, int64_t channel_stride, int64_t phases,
                   V<T> (&sum)[U][C]) {
  const int64_t taps = kernel_size * kernel_size;
  for (int64_t i = 0; i < phases; ++i)
    for (int64_t v = 0; v < kernel_size; ++v) {
      const int64_t source = kernel_size - 1 - v;
      V<T> g[C];
      for (int c = 0; c < C; ++c) g[c] = load(grad + i * phase_stride + c * channel_stride + source);
      for (int u = 0; u < U; ++u) {
        const V<T> kernel =
            load(kernels + (i * taps + u * kernel_size + v) * tap_stride + source);
        for (int c = 0; c < C; ++c) sum[u][c] += g[c] * kernel;
      }
    }
}

template <class T>
struct Backward {
  static constexpr int kMaxTaps = 5;  // taps or rows that share a load

  const int64_t halo, band;
  const bool streamed;
  Window<T> window;
  Kernel<T> kernel;                  // of the cells around the tile too
  const int64_t stride, own_stride;  // of rows of cells with those around, and without
  const int64_t phases, phase_stride, kernels_size, products_size, de_stride;
  T* grad;          // [phase][channel][cell around too], times (1 - gate)
  T* grad_kernels;  // [row][phase][tap][cell]
  T* grad_low;      // [tap][cell]: grad_kernels' sum over the phases
  T* grad_gate;     // [cell]
  T* products;      // [row][output row][output column]: grad times en, summed over the channels
  T* en_products;   // [phase][cell]: the same
  T* grad_de;       // [row around too][channel][cell]
  T* carried;       // [chunk][row][channel][cell]: those rows that the next band adds to
  T* kept;          // [output column]
  RowsOf<T> grad_rows, en_rows, grad_en_rows;  // [channel][output column]

  Backward(const Problem& p, int64_t columns, Scratch<T>& scratch)
      : halo(p.kernel_size / 2), band(band_of<T>(p)),
        streamed(is_streamed<T>(p, p.grad_en)), window(p, columns, band, scratch),
        kernel(p, columns, halo, band, scratch), stride(kernel.stride),
        own_stride(Cells<T>::stride_of(columns, 0)), phases(Cells<T>::phases_of(p)),
        phase_stride(kChunk * stride), kernels_size(phases * kernel.taps * own_stride),
        products_size(Cells<T>::max_rows_of(p) * kernel.width), de_stride(kChunk * own_stride),
        grad(scratch.take(phases * phase_stride)),
        grad_kernels(scratch.take(band * kernels_size)),
        grad_low(scratch.take(kernel.taps * own_stride)), grad_gate(scratch.take(own_stride)),
        products(scratch.take(band * products_size)),
        en_products(scratch.take(phases * own_stride)),
        grad_de(scratch.take((band + 2 * halo) * de_stride)),
        carried(scratch.take((p.channels + kChunk - 1) / kChunk * 2 * halo * de_stride)),
        kept(scratch.take(kernel.width)),
        grad_rows{scratch.take(kChunk * kernel.width), kernel.width},
        en_rows{scratch.take(kChunk * kernel.width), kernel.width},
        grad_en_rows{scratch.take(kChunk * kernel.width), kernel.width} {}

  void run(const Problem& p, const Tile& tile) const {
    const Cells<T> around(p, tile.left, tile.right, halo), own(p, tile.left, tile.right, 0);
    const int64_t begin = max(tile.top - halo, 0), end = min(tile.bottom + halo, p.low_height);
    for (int64_t top = begin; top < end; top += band) {
      const int64_t bottom = min(top + band, end);
      for (int64_t low = top; low < bottom; ++low)
        kernel.fill(p, around, tile.item, low, low - top);
      clear(grad_kernels, (bottom - top) * kernels_size);
      clear(products, (bottom - top) * products_size);
      for (int64_t channel = 0; channel < p.channels; channel += kChunk) {
        const int64_t channels = min(kChunk, p.channels - channel);
        T* carry = carried + channel / kChunk * 2 * halo * de_stride;
        window.fill(p, tile, channel, channels, top, bottom);
        copy(carry, 2 * halo * de_stride, grad_de);
        clear(grad_de + 2 * halo * de_stride, (bottom - top) * de_stride);
        for (int64_t low = top; low < bottom; ++low) {
          const bool last = low + 1 == bottom;
          add_row(p, tile, around, own, low, low - top, channel, channels,
                  last ? top : low + 1, last ? channel + kChunk : channel);
        }
        copy(grad_de + (bottom - top) * de_stride, 2 * halo * de_stride, carry);
        const int64_t complete = bottom == end ? tile.bottom : bottom - halo;
        for (int64_t low = max(top - halo, tile.top); low < min(complete, tile.bottom); ++low)
          store_rows<T>({grad_de + (low - top + halo) * de_stride, own_stride}, p.grad_de,
                        tile.item, channel, channels, low, tile.left, tile.right - tile.left);
      }
      if (has_grad_kernels(p))
        for (int64_t low = max(top, tile.top); low < min(bottom, tile.bottom); ++low)
          finish_kernels(p, tile, own, low, low - top);
    }
    finish_streams();
  }

  // Whether any gradient is needed that comes from that of the kernels.
  static bool has_grad_kernels(const Problem& p) {
    return p.grad_logits.data || p.grad_logits_de.data || p.grad_gate.data;
  }

  // Everything that a row of cells contributes to a chunk; `next` is what comes after it.
  void add_row(const Problem& p, const Tile& tile, const Cells<T>& around, const Cells<T>& own,
               int64_t low, int64_t r, int64_t channel, int64_t channels, int64_t next_low,
               int64_t next_channel) const {
    const Rows rows(p, low), next(p, next_low);
    const bool owned = low >= tile.top && low < tile.bottom;
    for (int64_t i = 0; i < rows.count(); ++i)
      load_grad(p, tile.item, around, own, channel, channels, rows.begin + i, i, r, owned);
    for (int64_t a = next_channel; a < min(next_channel + kChunk, p.channels); ++a)
      for (int64_t i = next.begin; i < next.end; ++i) {
        prefetch_row(p.grad, tile.item, a, i, around.column, around.columns());
        prefetch_row(p.en, tile.item, a, i, own.column, own.columns());
        if (!streamed) prefetch_row(p.grad_en, tile.item, a, i, own.column, own.columns());
      }
    if (owned && has_grad_kernels(p)) add_grad_kernels(own, rows.count(), r, channels);
    if (p.grad_de.data) add_grad_de(tile, around, rows.count(), low, r, channels);
  }

  // Read rows of the output's gradient; what the gate lets through is the gradient of `en`, the
  // rest goes on to the phases.
  void load_grad(const Problem& p, int64_t item, const Cells<T>& around, const Cells<T>& own,
                 int64_t channel, int64_t channels, int64_t at, int64_t i, int64_t r,
                 bool owned) const {
    const auto from = view_rows(p.grad, item, channel, channels, at, around.column,
                                around.columns(), grad_rows);
    if (!p.gate.data) {
      for (int64_t c = 0; c < channels; ++c)
        around.split(from[c], i, grad + c * stride, phase_stride);
      return;
    }
    const T* gate = kernel.gate_row(r);
    const int64_t shift = own.column - around.column;
    const int64_t begin = owned ? shift : 0, end = owned ? shift + own.columns() : 0;
    RowsOf<T> en = en_rows, passed = grad_en_rows;
    if (owned) {
      en = view_rows(p.en, item, channel, channels, at, own.column, own.columns(), en_rows);
      passed = rows_in_place(p.grad_en, item, channel, at, own.column, grad_en_rows);
    }
    for (int64_t c = 0; c < channels; ++c) {
      keep(from[c], gate, 0, begin, kept);
      if (owned)
        blend(from[c] + begin, gate + begin, en[c], own.columns(), streamed, kept + begin,
              passed[c], products + r * products_size + i * kernel.width);
      keep(from[c], gate, end, around.columns(), kept);
      around.split(kept, i, grad + c * stride, phase_stride);
    }
    if (owned)
      store_spare(grad_en_rows, p.grad_en, item, channel, channels, at, own.column, own.columns());
  }

  static void keep(const T* __restrict from, const T* __restrict gate, int64_t begin, int64_t end,
                   T* __restrict kept) {
    for (int64_t j = begin; j < end; ++j) kept[j] = from[j] * (1 - gate[j]);
  }

  static void blend(const T* __restrict from, const T* __restrict gate, const T* __restrict en,
                    int64_t count, bool streamed, T* __restrict kept, T* __restrict passed,
                    T* __restrict product) {
    int64_t j = in_vectors(passed, count, streamed, [&](int64_t i, auto write) {
      const V<T> all = load(from + i), pass = all * load(gate + i);
      write(passed + i, pass);
      store(kept + i, all - pass);
      store(product + i, load(product + i) + (all - pass) * load(en + i));
    });
    for (; j < count; ++j) {
      passed[j] = from[j] * gate[j];
      kept[j] = from[j] - passed[j];
      product[j] += kept[j] * en[j];
    }
  }

  void add_grad_kernels(const Cells<T>& own, int64_t rows, int64_t r, int64_t channels) const {
    const int64_t taps = own.taps;
    own.for_runs(rows, 0, [&](int64_t phase, int64_t count, int64_t cell) {
      for (int64_t k = cell; k < own_stride; k += kLanes<T>)
        in_blocks<kMaxPhases>(phase, phase + count, [&](int64_t i, auto p_block) {
          for (int64_t u = 0; u < own.kernel_size; ++u)
            in_blocks<kMaxTaps>(0, own.kernel_size, [&](int64_t v, auto v_block) {
              correlate<T, v_block.value, p_block.value>(
                  grad + i * phase_stride + k + halo, phase_stride, stride,
                  window.row(r + u) + k + v, window.stride, channels,
                  grad_kernels + r * kernels_size +
                      (i * taps + u * own.kernel_size + v) * own_stride + k,
                  taps * own_stride, own_stride);
            });
        });
    });
  }

  void add_grad_de(const Tile& tile, const Cells<T>& around, int64_t rows, int64_t low, int64_t r,
                   int64_t channels) const {
    const int64_t begin = max(0, tile.top - low + halo);
    const int64_t end = min(around.kernel_size, tile.bottom - low + halo);
    const int64_t over_cell = around.last - 1;
    for (int64_t c = 0; c < channels; c += kGatherChannels)
      for (int64_t k = 0; k < own_stride; k += kLanes<T>)
        in_blocks<kMaxTaps>(begin, end, [&](int64_t u, auto block) {
          constexpr int U = block.value;
          V<T> sum[U][kGatherChannels];
          T* to = grad_de + (r + u) * de_stride + c * own_stride + k;
          for (int j = 0; j < U; ++j)
            for (int i = 0; i < kGatherChannels; ++i)
              sum[j][i] = load(to + j * de_stride + i * own_stride);
          const auto gather_from = [&](int64_t phase, int64_t count) {
            gather<T, kGatherChannels, U>(
                kernel.of(r) + (phase * around.taps + u * around.kernel_size) * stride + k,
                around.kernel_size, stride, grad + phase * phase_stride + c * stride + k,
                phase_stride, stride, count, sum);
          };
          gather_from(0, rows * around.step);
          if (around.over && k <= over_cell && k + kLanes<T> > over_cell - 2 * halo)
            gather_from(around.over_phase(0, 0), rows * around.over);
          for (int j = 0; j < U; ++j)
            for (int i = 0; i < kGatherChannels; ++i)
              store(to + j * de_stride + i * own_stride, sum[j][i]);
        });
  }

  // From the gradient of the kernels to that of the logits and of the gate.
  void finish_kernels(const Problem& p, const Tile& tile, const Cells<T>& own, int64_t low,
                      int64_t r) const {
    const Rows rows(p, low);
    const int64_t taps = own.taps, count = tile.right - tile.left;
    T* grads = grad_kernels + r * kernels_size;
    if (p.gate.data)
      for (int64_t i = 0; i < rows.count(); ++i)
        own.split(products + r * products_size + i * kernel.width, i, en_products, own_stride);
    own.clear_absent(grads, rows.count(), own_stride);
    clear(grad_low, taps * own_stride);
    clear(grad_gate, own_stride);
    own.for_runs(rows.count(), 0, [&](int64_t phase, int64_t phases, int64_t cell) {
      for (int64_t i = phase; i < phase + phases; ++i)
        for (int64_t k = cell; k < own_stride; k += kLanes<T>)
          finish_vector(p, kernel.of(r) + i * taps * stride + k + halo,
                        grads + i * taps * own_stride + k, k, kernel.gate(r) + k + halo,
                        en_products + i * own_stride + k);
    });
    for (int64_t i = 0; i < rows.count(); ++i) {
      const auto to = rows_in_place(p.grad_logits, tile.item, 0, rows.begin + i, own.column,
                                    kernel.spare);
      for (int64_t t = 0; t < taps; ++t)
        own.join(grads + t * own_stride, taps * own_stride, i, to[t]);
      store_spare(kernel.spare, p.grad_logits, tile.item, 0, taps, rows.begin + i, own.column,
                  own.columns());
    }
    if (p.logits_de.data)
      store_rows<T>({grad_low, own_stride}, p.grad_logits_de, tile.item, 0, taps, low, tile.left,
                    count);
    if (p.gate.data)
      store_rows<T>({grad_gate, own_stride}, p.grad_gate, tile.item, 0, 1, low, tile.left, count);
  }

  void finish_vector(const Problem& p, const T* kernels, T* grads, int64_t k, const T* gate,
                     const T* en_product) const {
    V<T> sum = {};
    for (int64_t t = 0; t < kernel.taps; ++t)
      sum += load(kernels + t * stride) * load(grads + t * own_stride);
    if (p.gate.data)
      store(grad_gate + k, load(grad_gate + k) + load(gate) * (load(en_product) - sum));
    for (int64_t t = 0; t < kernel.taps; ++t) {
      V<T> g = load(grads + t * own_stride);
      if (p.softmax) g = load(kernels + t * stride) * (g - sum);
      store(grads + t * own_stride, g);
      store(grad_low + t * own_stride + k, load(grad_low + t * own_stride + k) + g);
    }
  }

  static void copy(const T* from, int64_t count, T* to) {
    __builtin_memcpy(to, from, count * sizeof(T));
  }

  static void clear(T* memory, int64_t count) { __builtin_memset(memory, 0, count * sizeof(T)); }
};

template <class T>
int64_t scratch_size(const Problem& p, bool backward) {
  Scratch<T> scratch(nullptr, 0);
  if (backward)
    Backward<T>(p, p.columns, scratch);
  else
    Forward<T>(p, p.columns, scratch);
  return scratch.used;
}

template <class T>
void forward(const Problem& p, const Tile& tile, T* memory) {
  Scratch<T> scratch(memory, scratch_size<T>(p, false));
  Forward<T>(p, tile.right - tile.left, scratch).run(p, tile);
}

template <class T>
void backward(const Problem& p, const Tile& tile, T* memory) {
  Scratch<T> scratch(memory, scratch_size<T>(p, true));
  Backward<T>(p, tile.right - tile.left, scratch).run(p, tile);
}

template <class T>
constexpr KernelsOf<T> kernels_of = {scratch_size<T>, forward<T>, backward<T>};

}  // namespace
}  // namespace fade_mm
