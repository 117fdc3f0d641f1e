// Matrices as `inkstone quantize` makes them of f32 numbers.
#pragma once
#include <algorithm>

#include "ops/mixed_codes.h"
#include "ops/quantize.h"

namespace inkstone {

/// Codes of 4 or 8 bits in rows, in groups of `group`.
inline Weight in_rows(WeightFormat format, const Tensor& numbers, int64_t group) {
  const int64_t out = numbers.dim(0), in = numbers.dim(1);
  const BlockLayout& layout = layout_of(format);
  const Weight made = {.format = format,
                       .out = out,
                       .in = in,
                       .data = host_tensor({out, in / layout.numbers * layout.bytes}, DType::u8),
                       .scales = host_tensor({out, in / group}, DType::bf16),
                       .offsets = host_tensor({out, in / group}, DType::bf16),
                       .group = group};
  for (int64_t row = 0; row < out; ++row)
    quantize_affine(format, numbers.data<const float>() + row * in, nullptr, in, group,
                    {made.data.rows(row, row + 1).data<uint8_t>(), made.scales.rows(row, row + 1).data<bf16_t>(),
                     made.offsets.rows(row, row + 1).data<bf16_t>()});
  return made;
}

/// The same in the order of the cpu's kernels, of inputs that `factors` even out.
inline Weight in_mixed_order(WeightFormat format, const Tensor& numbers, const Tensor& factors) {
  Weight made = empty_mixed(format, numbers.dim(0), numbers.dim(1), factors);
  quantize_mixed(numbers.data<const float>(), made);
  return made;
}

}  // namespace inkstone
