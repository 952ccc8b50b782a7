// Which output points read around which low-resolution point, and where buffers keep them.
//
// What must hold:
// - A buffer [phase][tap or channel][cell] has a place for every phase of every cell, also where
//   there is no output point: outside of the feature, in the rows and columns that rounding up
//   added, and in the phases left over, which the last cell alone has.
// - `split` writes points only and `join` reads points only. The other places keep what was there,
//   until something is computed in whole vectors.
// - Vectors are not masked: in the other places a gradient is zero and a kernel finite, so that
//   their product is zero (`clear_absent`).
#pragma once

#include "vectors.h"

namespace fade_mm {
namespace {

// The cells whose output points a tile looks at, as buffers hold them. Forward looks at the tile's
// own cells; backward's gradient of `de` also at those around.
template <class T>
struct Cells {
  int64_t step, kernel_size, taps;
  int64_t left;         // the low-resolution column of buffers' cell 0; may lie outside
  int64_t first, last;  // the cells [first, last) lie inside of the feature
  int64_t stride;       // cells of a buffer's row, a multiple of the vector
  int64_t column;       // the output column where cell `first` begins
  int64_t main, over;   // output columns: of all cells; left over for the last cell
  int64_t max_rows;     // output rows of a low-resolution row, at most

  Cells(const Problem& p, int64_t left, int64_t right, int64_t halo)
      : step(p.step), kernel_size(p.kernel_size), taps(kernel_size * kernel_size),
        left(left - halo) {
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

}  // namespace
}  // namespace fade_mm
