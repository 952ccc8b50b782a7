// Backward: the gradients of all operands, from that of the output.
//
// What must hold:
// - A tile writes the gradients at its own cells and at their output points, each once. It looks at
//   `halo` cells around, computes their kernels and gates anew, and writes nothing there: so there
//   are no atomics, and no order between tiles.
// - The gradient of `de` at a row is complete once `halo` rows of cells below it were added. What a
//   band leaves incomplete is carried to the next one, chunk by chunk.
// - Sums are taken in this order: for `de` over rows of cells, then phases, then taps; for the
//   kernels and the gate over the channels; for what has low resolution then over the phases.
// - `grad` is zero where there is no output point, since `split` alone writes to it.
//   `grad_kernels` is so after `clear_absent`, and nothing is summed over its phases before.
// - Gradients that are not needed are absent: computed where that is simpler, never stored.
#pragma once

#include "band.h"

namespace fade_mm {
namespace {

// Channels that share a load of a kernel.
constexpr int kGatherChannels = kManyRegisters ? 4 : 2;

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

}  // namespace
}  // namespace fade_mm
