// What the engine's definitions say, for the ladders' checks. Their own headers are beyond nvcc.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/weight_format.h"

namespace ladder {

/// A row of a matrix in host memory: its blocks, and in bf16 what lies beside them.
struct PackedRow {
  inkstone::WeightFormat format;
  int64_t in = 0, group = 0;
  std::vector<uint8_t> blocks, scales, offsets;
};
std::vector<float> dequantized(const PackedRow& row);

/// Takes a group of up to kMixedGroup mixed numbers apart.
void unmix_group(float* numbers, int64_t count);

double silu(double x);

}  // namespace ladder
