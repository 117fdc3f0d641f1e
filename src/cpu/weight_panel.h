// Weights of any format as the f32 that the kernels read.
#pragma once
#include "cpu/vector_ops.h"
#include "ops/weight.h"

namespace inkstone {

/// Some outputs and some inputs of a weight matrix.
struct PanelRange {
  int64_t out_begin = 0;
  int64_t out_end = 0;
  int64_t in_begin = 0;
  int64_t in_end = 0;

  int64_t outputs() const { return out_end - out_begin; }
  int64_t depth() const { return in_end - in_begin; }
};

/// Outputs of a strip: as many as a tile of a product has columns.
inline int64_t strip_width(const VectorOps& vector) { return vector.panel_vectors * vector.lanes; }

/// Room that pack_panel needs beside the panel, in numbers.
inline int64_t expanded_numbers(const VectorOps& vector, int64_t depth) { return vector.lanes * depth; }

/// Called some time before inputs of a row are read.
void prefetch_row(const Weight& weight, int64_t row, int64_t begin, int64_t end);

/// Packs a range as strips of strip_width() outputs, one behind the other, each (depth, outputs): outputs lie side by
/// side, those of the last strip rounded up to whole vectors. `expanded` is room for rows in the making. What
/// follows in these rows is fetched, for whoever multiplies with this range first and packs the next one then.
void pack_panel(const VectorOps& vector, const Weight& weight, const PanelRange& range, float* expanded, float* panel);

}  // namespace inkstone
