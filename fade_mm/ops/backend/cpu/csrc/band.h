// What a tile keeps of a band: a few rows of cells that go through the channels together.
//
// What must hold:
// - Scratch memory is the tile's own; no other thread sees it. Each piece of it is aligned to 64
//   bytes, and zero when a tile begins, whatever the tile before left there.
// - The constructors that take it also say how much there must be, for the widest tile (`Scratch`
//   of null). So sizes may grow with a tile's columns, and depend on nothing else of it.
// - Windows are zero outside of the feature: columns there are never written, rows are cleared.
// - A chunk may have fewer channels than buffers do. The others hold what was there before, which
//   may be NaN. They may be computed with, since channels do not mix; the results are not stored.
// - Kernels are finite where there is no output point, whatever the operands are.
#pragma once

#include "geometry.h"
#include "rows.h"

namespace fade_mm {
namespace {

constexpr int kMaxPhases = kManyRegisters ? 4 : 2;  // that share a load of a row
constexpr int64_t kChunk = 16;   // channels
constexpr int64_t kPage = 4096;  // bytes that a band visits of a channel
constexpr int64_t kMinBand = 4;  // rows of cells; shorter bands read `de` too often

// Hands out aligned pieces of a tile's scratch memory, zeroed; or, of null, only adds them up. That
// there is too little can only be a mistake here, and ends the process before memory is overrun.
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

}  // namespace
}  // namespace fade_mm
