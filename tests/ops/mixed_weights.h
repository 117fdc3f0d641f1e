// Weights in the order of the cpu's kernels.
#pragma once
#include "ops/mixed_codes.h"
#include "ops/random_tensors.h"

namespace inkstone {

/// Normal numbers, rounded; factors are powers of two.
inline Weight random_mixed(int64_t out, int64_t in, uint64_t seed, float most_factor = 4) {
  const Weight weight = {.format = WeightFormat::affine8,
                         .out = out,
                         .in = in,
                         .data = host_tensor({out, in}, DType::u8),
                         .scales = host_tensor({MixedOrder::groups_in(in), out}, DType::f32),
                         .group = kMixedGroup,
                         .factors = host_tensor({in}, DType::f32)};
  for (int64_t i = 0; i < in; ++i) weight.factors.data<float>()[i] = i % 7 == 0 ? most_factor : i % 5 == 0 ? 0.5f : 1;
  quantize_mixed(random_normal({out, in}, seed).data<const float>(), weight);
  return weight;
}

/// The same numbers in f32.
inline Weight unpacked(const Weight& weight) {
  const Tensor numbers = host_tensor({weight.out, weight.in}, DType::f32);
  dequantize_rows(weight, 0, weight.out, numbers.data<float>());
  return dense_weight(numbers);
}

}  // namespace inkstone
