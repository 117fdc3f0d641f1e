// Weights of any format as the numbers that the kernels read.
#pragma once
#include "core/rounding.h"
#include "cpu/cache_line.h"
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

/// Where a range is packed.
struct PanelMemory {
  float* rows = nullptr;  ///< room for row_numbers()
  float* panel = nullptr;
  float* scales = nullptr;  ///< (outputs), rounded up to whole vectors
};

/// Room for rows in the making, in numbers.
inline int64_t row_numbers(const VectorOps& vector, const PanelOps& ops, int64_t depth) {
  return vector.lanes * divide_up(depth, ops.inputs) + (ops.round_weights == nullptr ? 0 : depth);
}

/// Called some time before memory is read.
inline void prefetch(const void* memory, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(static_cast<const std::byte*>(memory) + i);
}

/// Called some time before inputs of a row are read.
void prefetch_row(const Weight& weight, int64_t row, int64_t begin, int64_t end);

/// Packs a range as strips of strip_width() outputs, one behind the other, each (places, outputs): outputs lie side by
/// side, those of the last strip rounded up to whole vectors. `ops` are of that instruction set.
void pack_panel(const VectorOps& vector, const PanelOps& ops, const Weight& weight, const PanelRange& range,
                const PanelMemory& to);

}  // namespace inkstone
