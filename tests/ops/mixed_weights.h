// Weights in the order of the cpu's kernels.
#pragma once
#include "ops/random_tensors.h"
#include "ops/rounded_weights.h"

namespace inkstone {

/// Normal numbers, rounded; factors are powers of two.
inline Weight random_mixed(WeightFormat format, int64_t out, int64_t in, uint64_t seed, float most_factor = 4) {
  const Tensor factors = host_tensor({in}, DType::f32);
  for (int64_t i = 0; i < in; ++i) factors.data<float>()[i] = i % 7 == 0 ? most_factor : i % 5 == 0 ? 0.5f : 1;
  return in_mixed_order(format, random_normal({out, in}, seed), factors);
}

inline Weight random_mixed(int64_t out, int64_t in, uint64_t seed, float most_factor = 4) {
  return random_mixed(WeightFormat::affine8, out, in, seed, most_factor);
}

/// The same numbers in f32.
inline Weight unpacked(const Weight& weight) {
  const Tensor numbers = host_tensor({weight.out, weight.in}, DType::f32);
  dequantize_rows(weight, 0, weight.out, numbers.data<float>());
  return dense_weight(numbers);
}

}  // namespace inkstone
