// A problem or a product cut into tiles, and these onto threads.
//
// What must hold:
// - Every low-resolution point, or column of a product, is in one tile, and no two tiles write to the
//   same memory: any thread may compute any of them, in any order.
// - Tiles follow from the problem and the number of threads alone, so that results do, too, to the
//   last bit.
// - Each thread has scratch memory of its own, for the widest tile and aligned as kernel.h says.
// - There may be fewer threads than were asked for (parallel.h): each takes the next tile there is.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "kernel.h"
#include "parallel.h"

namespace fade_mm {
namespace {

// What a tile may keep beside its inputs and outputs: about what a core's own cache holds.
constexpr int64_t kScratchBytes = 800 * 1024;
constexpr int64_t kMinColumns = 32;
constexpr int64_t kAlignment = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Call f(tile, scratch) for each of the tiles [0, tiles). False where there is no memory for the
// scratch, of `size` elements for each thread.
template <class T, class F>
bool for_tiles(int64_t tiles, int64_t threads, int64_t size, F f) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  on_threads(std::min(threads, tiles), [&] {
    const int64_t padding = kAlignment / sizeof(T);
    std::unique_ptr<T[]> memory(new (std::nothrow) T[size + padding]);
    T* scratch = memory.get();
    if (!scratch) failed = true;
    while (reinterpret_cast<uintptr_t>(scratch) % kAlignment) ++scratch;
    for (int64_t i = next++; i < tiles && !failed; i = next++) f(i, scratch);
  });
  return !failed;
}

template <class T>
bool run(const Product<T>& p, const KernelsOf<T>& kernels, int64_t threads) {
  if (!p.batch || !p.columns) return true;
  const int64_t columns = kernels.tile_columns(p, threads), across = ceil_div(p.columns, columns);
  return for_tiles<T>(p.batch * across, threads, columns * p.depth, [&](int64_t i, T* scratch) {
    const int64_t begin = i % across * columns;
    kernels.multiply(p, i / across, begin, std::min(begin + columns, p.columns), scratch);
  });
}

template <class T>
bool run(const Correlation<T>& p, const KernelsOf<T>& kernels, int64_t threads) {
  int64_t chunks = 1;
  while (chunks < ceil_div(p.points, 1024) && p.batch * chunks < threads) ++chunks;
  const int64_t tiles = p.batch * chunks, stride = kernels.sums_stride(p), size = p.rows * stride;
  std::unique_ptr<T[]> sums(new (std::nothrow) T[tiles * size]);
  if (!sums) return false;
  const bool done = for_tiles<T>(tiles, threads, kernels.panel_size, [&](int64_t i, T* scratch) {
    const int64_t chunk = i % chunks;
    kernels.correlate(p, i / chunks, p.points * chunk / chunks, p.points * (chunk + 1) / chunks,
                      sums.get() + i * size, scratch);
  });
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t column = 0; column < p.columns; ++column) {
      T sum = 0;
      for (int64_t i = 0; i < tiles; ++i) sum += sums[i * size + row * stride + column];
      p.out[row * p.columns + column] = sum;
    }
  return done;
}

template <class T>
bool run(Problem p, const KernelsOf<T>& kernels, bool backward, int64_t threads) {
  int64_t& columns = p.columns = p.low_width;
  const auto scratch_size = [&] { return kernels.scratch_size(p, backward); };
  while (columns > kMinColumns && scratch_size() * int64_t(sizeof(T)) > kScratchBytes)
    columns = std::max(kMinColumns, ceil_div(ceil_div(columns, 2), 16) * 16);

  // Few tiles, since rows at their edges are computed twice, but the same number for each thread.
  const int64_t across = ceil_div(p.low_width, columns), strips = p.batch * across;
  int64_t chunks = 1;
  while (chunks < p.low_height && strips * chunks % threads && strips * chunks < 4 * threads)
    ++chunks;

  return for_tiles<T>(strips * chunks, threads, scratch_size(), [&](int64_t i, T* scratch) {
    const int64_t strip = i / chunks, chunk = i % chunks;
    Tile tile;
    tile.item = strip / across;
    tile.top = p.low_height * chunk / chunks;
    tile.bottom = p.low_height * (chunk + 1) / chunks;
    tile.left = strip % across * columns;
    tile.right = std::min(tile.left + columns, p.low_width);
    (backward ? kernels.backward : kernels.forward)(p, tile, scratch);
  });
}

}  // namespace
}  // namespace fade_mm
