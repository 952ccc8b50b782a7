// What the dispatcher and the kernels of each instruction set share: plain data, no library.
#pragma once

#include <cstdint>

namespace fade_mm {

enum class DType : int { kFloat, kDouble, kBFloat16 };

// A tensor (n, c, row, col) of any dtype and strides (in elements); `data` is null where absent.
struct View {
  void* data = nullptr;
  DType dtype = DType::kFloat;
  int64_t stride[4] = {0, 0, 0, 0};
};

// One call, forward or backward. Gradients that are not needed are absent.
struct Problem {
  int64_t batch, channels, low_height, low_width, height, width;
  int64_t kernel_size;
  int64_t step;  // the scale factor, or 1 where both resolutions are equal
  bool softmax;
  int64_t columns = 0;  // low-resolution columns of the widest tile
  View de, logits, logits_de, gate, en;
  View out;   // forward
  View grad;  // backward, as all below
  View grad_de, grad_logits, grad_logits_de, grad_gate, grad_en;
};

// The part of a problem that one thread computes: low-resolution rows [top, bottom) and columns
// [left, right) of one item of the batch, and the output points that read around them.
struct Tile {
  int64_t item, top, bottom, left, right;
};

// out = a b + bias, for each item of the batch: `a` (rows, depth) is the same for all and has
// strides, `b` (batch, depth, columns) and `out` (batch, rows, columns) are contiguous, `bias` (rows)
// may be null.
template <class T>
struct Product {
  int64_t batch, rows, depth, columns;
  int64_t a_row, a_depth;
  const T *a, *b, *bias;
  T* out;
};

// out[row][column], the sum over the batch and the points of a[row] times b[column]; `a` (batch,
// rows, points), `b` (batch, columns, points) and `out` are contiguous.
template <class T>
struct Correlation {
  int64_t batch, rows, columns, points;
  const T *a, *b;
  T* out;
};

// The kernels of one instruction set, accumulating in T. `scratch` is what any tile of the problem
// needs beside its inputs and outputs, in elements, aligned to 64 bytes.
template <class T>
struct KernelsOf {
  int64_t (*scratch_size)(const Problem&, bool backward);
  void (*forward)(const Problem&, const Tile&, T* scratch);
  void (*backward)(const Problem&, const Tile&, T* scratch);
  // Columns of a product's tiles; `scratch` is that many times its depth.
  int64_t (*tile_columns)(const Product<T>&, int64_t threads);
  void (*multiply)(const Product<T>&, int64_t item, int64_t begin, int64_t end, T* scratch);
  // The rows of `sums` are that far apart; `scratch` is a panel.
  int64_t (*sums_stride)(const Correlation<T>&);
  int64_t panel_size;
  void (*correlate)(const Correlation<T>&, int64_t item, int64_t begin, int64_t end, T* sums,
                    T* scratch);
};

struct Kernels {
  const char* name;
  KernelsOf<float> of_float;
  KernelsOf<double> of_double;
};

// Null where the binary holds no such kernels.
const Kernels* baseline_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

}  // namespace fade_mm
