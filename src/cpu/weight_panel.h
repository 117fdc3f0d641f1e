// Parts of a weight matrix as f32, whatever its format.
#pragma once
#include "ops/weight.h"

namespace inkstone {

/// Rows [row_begin, row_end) and columns [column_begin, column_end) of a weight matrix.
struct PanelRange {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t column_begin = 0;
  int64_t column_end = 0;

  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
};

/// The columns where a panel may begin and end: multiples of this.
int64_t column_unit(const Weight& weight);

/// Writes the panel row by row, without gaps, to `out`. Columns are whole units of the weight.
void expand_panel(const Weight& weight, const PanelRange& range, float* out);

/// `count` numbers of a float type as f32.
void widen(const Tensor& from, int64_t begin, int64_t count, float* out);

}  // namespace inkstone
