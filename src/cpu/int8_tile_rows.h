// Scales and sums of a tile's rows, in the order in which the kernels of 8-bit products read them.
#pragma once
#include <vector>

#include "cpu/int8_ops.h"

namespace inkstone {

/// Where rows have the scales and sums of their codes.
struct Int8RowFactors {
  const float* scales = nullptr;  ///< of group g of row r: [r * stride + g]
  const int32_t* sums = nullptr;  ///< likewise
  int64_t stride = 0;
};

/// Keeps those of one tile after another.
class Int8TileRows {
 public:
  explicit Int8TileRows(const Int8Ops& int8) : rows_(int8.tile_rows) {}

  /// Of up to tile_rows rows.
  void gather(const Int8RowFactors& from, int64_t rows, int64_t groups) {
    scales_.resize(static_cast<size_t>(groups * rows_));
    sums_.resize(scales_.size());
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t group = 0; group < groups; ++group) {
        const auto to = static_cast<size_t>(group * rows_ + row);
        scales_[to] = from.scales[row * from.stride + group];
        sums_[to] = from.sums[row * from.stride + group];
      }
  }

  const float* scales() const { return scales_.data(); }
  const int32_t* sums() const { return sums_.data(); }

 private:
  int64_t rows_;
  // [group * tile_rows + row]; of missing rows whatever was there, as what they give is not written
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
};

}  // namespace inkstone
