// What follows the matrix product of a linear layer, on one tile while it is in the cache.
#pragma once
#include "ops/kernels.h"

namespace inkstone {

/// Rows and columns of a row-major f32 result.
struct Tile {
  float* y = nullptr;  ///< the result's first number
  int64_t stride = 0;  ///< numbers from row to row
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t column_begin = 0;
  int64_t column_end = 0;
};

/// y = residual + gate * act(y + bias) on the tile; `bias` points to that of the tile's first column, or is null.
void finish_tile(const Tile& tile, const float* bias, const Epilogue& epilogue);

}  // namespace inkstone
