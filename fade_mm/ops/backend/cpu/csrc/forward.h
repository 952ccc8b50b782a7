// Forward: kernels, reassembly and gate.
//
// What must hold:
// - A tile writes the output points of its own cells, each once, and no others: tiles need not know
//   of each other.
// - Sums over the taps are taken in their order, in one accumulator per point, wherever tiles,
//   bands and vectors begin.
// - Channels are reassembled in fours; results of those that a chunk does not have are not stored.
#pragma once

#include "band.h"

namespace fade_mm {
namespace {

constexpr int kReassembled = 4;  // channels that share a load of a kernel

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

}  // namespace
}  // namespace fade_mm
