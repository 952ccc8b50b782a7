// Products of matrices, for 1x1 convolutions of features as they lie: forward and the gradient of
// the feature (`multiply`), the gradient of the weight (`correlate`).
//
// What must hold:
// - A tile writes its columns of the result, or its own sums, each once, and no others.
// - Sums are taken over the depth in its order, in one accumulator per value, beginning with what
//   is there, wherever tiles and vectors begin.
// - Panels are packed before they are read, since rows that lie a power of two apart would all fall
//   on the same lines of a cache. Columns that there are not are zero in them.
#pragma once

#include "vectors.h"

namespace fade_mm {
namespace {

constexpr int kRows = kManyRegisters ? 8 : 4;  // that share a load of a panel
constexpr int kVectors = 3;                    // of a panel, that share a load of the other factor
template <class T>
constexpr int64_t kPanel = kVectors * kLanes<T>;  // columns
constexpr int64_t kAhead = 4;            // rows or vectors that are asked for before they are packed
constexpr int64_t kPacked = 256 * 1024;  // bytes of a tile's panels, about

// R rows of a panel [depth][column]: to `sum`, that over the depth of `a` times the panel.
template <class T, int R>
inline void add_products(const T* a, int64_t a_row, int64_t a_depth, int64_t depth, const T* panel,
                         V<T> (&sum)[R][kVectors]) {
  for (int64_t k = 0; k < depth; ++k) {
    V<T> b[kVectors];
    for (int v = 0; v < kVectors; ++v) b[v] = load(panel + k * kPanel<T> + v * kLanes<T>);
    for (int i = 0; i < R; ++i) {
      const V<T> x = V<T>{} + a[i * a_row + k * a_depth];
      for (int v = 0; v < kVectors; ++v) sum[i][v] += x * b[v];
    }
  }
}

// Columns of a tile: whole panels, as many as it may pack, but no more than a thread's share, nor
// than there are.
template <class T>
int64_t tile_columns(const Product<T>& p, int64_t threads) {
  const int64_t panel = max(p.depth, 1) * kPanel<T> * int64_t(sizeof(T));
  const int64_t share = min((p.batch * p.columns + threads - 1) / threads, p.columns);
  return min(max(kPacked / panel, 1) * kPanel<T>, round_up(share, kPanel<T>));
}

// The columns [begin, end) of one item's result.
template <class T>
void multiply(const Product<T>& p, int64_t item, int64_t begin, int64_t end, T* panels) {
  const int64_t columns = end - begin;
  const T* b = p.b + item * p.depth * p.columns + begin;
  T* out = p.out + item * p.rows * p.columns + begin;
  const int64_t size = p.depth * kPanel<T>;
  for (int64_t k = 0; k < p.depth; ++k)
    for (int64_t j = 0; j < columns; j += kPanel<T>) {
      const T* from = b + k * p.columns + j;
      T* to = panels + j / kPanel<T> * size + k * kPanel<T>;
      const int64_t count = min(columns - j, kPanel<T>);
      if (count == kPanel<T>)
        for (int v = 0; v < kVectors; ++v) {
          __builtin_prefetch(from + kAhead * p.columns + v * kLanes<T>);
          store(to + v * kLanes<T>, load(from + v * kLanes<T>));
        }
      else
        for (int64_t i = 0; i < kPanel<T>; ++i) to[i] = i < count ? from[i] : 0;
    }
  for (int64_t j = 0; j < columns; j += kPanel<T>)
    in_blocks<kRows>(0, p.rows, [&](int64_t row, auto block) {
      constexpr int R = block.value;
      const int64_t count = min(columns - j, kPanel<T>);
      V<T> sum[R][kVectors];
      for (int i = 0; i < R; ++i)
        for (int v = 0; v < kVectors; ++v) {
          sum[i][v] = V<T>{} + (p.bias ? p.bias[row + i] : 0);
          if (v * kLanes<T> < count)  // the arithmetic hides its way into the cache
            __builtin_prefetch(out + (row + i) * p.columns + j + v * kLanes<T>, 1);
        }
      add_products<T, R>(p.a + row * p.a_row, p.a_row, p.a_depth, p.depth,
                         panels + j / kPanel<T> * size, sum);
      for (int i = 0; i < R; ++i) {
        T* to = out + (row + i) * p.columns + j;
        if (count == kPanel<T>)
          for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sum[i][v]);
        else
          for (int64_t l = 0; l < count; ++l) to[l] = sum[i][l / kLanes<T>][l % kLanes<T>];
      }
    });
}

// Points of a feature that `correlate` packs together.
constexpr int64_t kPoints = 256;

template <class T>
int64_t sums_stride(const Correlation<T>& p) {
  return round_up(p.columns, kPanel<T>);
}

// Columns [column, column + kLanes) of a panel [point][column], from rows of points.
template <class T>
void pack_transposed(const T* from, int64_t stride, int64_t rows, int64_t points, T* to) {
  int64_t j = 0;
  for (; rows == kLanes<T> && j + kLanes<T> <= points; j += kLanes<T>) {
    V<T> x[kLanes<T>];
    for (int64_t i = 0; i < kLanes<T>; ++i) {
      __builtin_prefetch(from + i * stride + j + kAhead * kLanes<T>);
      x[i] = load(from + i * stride + j);
    }
    transpose<T>(x);
    for (int64_t i = 0; i < kLanes<T>; ++i) store(to + (j + i) * kPanel<T>, x[i]);
  }
  for (; j < points; ++j)
    for (int64_t i = 0; i < kLanes<T>; ++i)
      to[j * kPanel<T> + i] = i < rows ? from[i * stride + j] : 0;
}

// Sums [row][column] over the points [begin, end) of one item.
template <class T>
void correlate(const Correlation<T>& p, int64_t item, int64_t begin, int64_t end, T* sums,
               T* panel) {
  const int64_t stride = sums_stride(p);
  __builtin_memset(sums, 0, p.rows * stride * sizeof(T));
  for (int64_t top = begin; top < end; top += kPoints) {
    const int64_t points = min(kPoints, end - top);
    const T* a = p.a + item * p.rows * p.points + top;
    const T* b = p.b + item * p.columns * p.points + top;
    for (int64_t j = 0; j < p.columns; j += kPanel<T>) {
      for (int64_t v = 0; v < kPanel<T>; v += kLanes<T>)
        pack_transposed(b + (j + v) * p.points, p.points,
                        max(min(p.columns - j - v, kLanes<T>), 0), points, panel + v);
      in_blocks<kRows>(0, p.rows, [&](int64_t row, auto block) {
        constexpr int R = block.value;
        T* to = sums + row * stride + j;
        V<T> sum[R][kVectors];
        for (int i = 0; i < R; ++i)
          for (int v = 0; v < kVectors; ++v) sum[i][v] = V<T>{};
        add_products<T, R>(a + row * p.points, p.points, 1, points, panel, sum);
        for (int i = 0; i < R; ++i)
          for (int v = 0; v < kVectors; ++v) {
            T* at = to + i * stride + v * kLanes<T>;
            store(at, load(at) + sum[i][v]);
          }
      });
    }
  }
}

}  // namespace
}  // namespace fade_mm
