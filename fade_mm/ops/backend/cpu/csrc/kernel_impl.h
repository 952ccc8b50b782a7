// The kernels, in vectors of VECTOR_BYTES. Each kernel_*.cpp compiles this file and its chapters for
// one instruction set; everything is internal to it and no header is used but the compiler's of
// intrinsics, which are always inlined, so that no function compiled for a newer instruction set can
// be linked in place of a common one.
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
//
//   vectors.h     vectors and what is computed in them
//   rows.h        rows of tensors of any dtype and strides
//   geometry.h    cells, phases and output points
//   band.h        what a tile keeps: scratch memory, windows, kernels
//   forward.h     the passes
//   backward.h
//   products.h    1x1 convolutions, which know nothing of all this
#pragma once

#include "backward.h"
#include "forward.h"
#include "products.h"

namespace fade_mm {
namespace {

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
constexpr KernelsOf<T> kernels_of = {scratch_size<T>, forward<T>, backward<T>,
                                        tile_columns<T>, multiply<T>,
                                        sums_stride<T>,  kPoints * kPanel<T>, correlate<T>};

}  // namespace
}  // namespace fade_mm
