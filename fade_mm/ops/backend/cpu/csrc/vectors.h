// Vectors of VECTOR_BYTES, and what is computed in them point by point.
//
// What must hold:
// - Addresses need the alignment of their elements alone, except those of `stream`, which need the
//   vector's. `in_vectors` streams where a row begins there.
// - Who streams calls `finish_streams` before its tile is done: other threads may read then.
// - NaN stays NaN in all of this, and concerns its own lane alone.
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
#define FADE_MM_LANES(T, I)                                                                    \
  template <>                                                                                  \
  struct Lanes<T> {                                                                            \
    typedef T V __attribute__((vector_size(VECTOR_BYTES)));                                    \
    typedef I Indices __attribute__((vector_size(VECTOR_BYTES)));                              \
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
  typedef int32_t Int __attribute__((vector_size(VECTOR_BYTES)));
  const Int power = ((Int)shifted - (Int)magic + 127) << 23;
  return p * (V<float>)power;
}
inline V<double> exp(V<double> x) {
  for (int64_t i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}
// Lanes of two vectors, counted one after the other.
template <class T>
inline V<T> shuffle(V<T> a, V<T> b, typename Lanes<T>::Indices lanes) {
#if defined(__clang__)
  V<T> found;
  for (int64_t l = 0; l < kLanes<T>; ++l)
    found[l] = lanes[l] < kLanes<T> ? a[lanes[l]] : b[lanes[l] - kLanes<T>];
  return found;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

// Rows become columns.
template <class T>
inline void transpose(V<T> (&x)[kLanes<T>]) {
  for (int64_t w = 1; w < kLanes<T>; w *= 2) {
    typename Lanes<T>::Indices low, high;
    for (int64_t l = 0; l < kLanes<T>; ++l) {
      low[l] = l & w ? l - w + kLanes<T> : l;
      high[l] = l & w ? l + kLanes<T> : l + w;
    }
    for (int64_t i = 0; i < kLanes<T>; ++i)
      if (!(i & w)) {
        const V<T> above = x[i], below = x[i + w];
        x[i] = shuffle<T>(above, below, low);
        x[i + w] = shuffle<T>(above, below, high);
      }
  }
}

// Registers decide how many accumulators a block may have: 32 with AVX-512 and on Arm, else 16.
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

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

}  // namespace
}  // namespace fade_mm
