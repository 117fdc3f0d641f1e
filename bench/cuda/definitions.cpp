#include "definitions.h"

#include <algorithm>

#include "ops/mixed_codes.h"
#include "reference/formulas.h"

namespace ladder {
namespace {

using namespace inkstone;

Tensor tensor_of(const std::vector<uint8_t>& bytes, DType type) {
  if (bytes.empty()) return {};
  const auto count = static_cast<int64_t>(bytes.size() / size_of(type));
  const Tensor tensor = host_tensor({1, count}, type);
  std::copy(bytes.begin(), bytes.end(), tensor.data<uint8_t>());
  return tensor;
}

}  // namespace

std::vector<float> dequantized(const PackedRow& row) {
  const Weight weight = {.format = row.format,
                         .out = 1,
                         .in = row.in,
                         .data = tensor_of(row.blocks, DType::u8),
                         .scales = tensor_of(row.scales, DType::bf16),
                         .offsets = tensor_of(row.offsets, DType::bf16),
                         .group = row.group};
  std::vector<float> numbers(static_cast<size_t>(row.in));
  dequantize_rows(weight, 0, 1, numbers.data());
  return numbers;
}

void unmix_group(float* numbers, int64_t count) { mix_group(numbers, count); }

double silu(double x) { return inkstone::silu(x); }

}  // namespace ladder
