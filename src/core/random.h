// The random numbers of torch on the CPU, so that a seed means the same picture as in diffusers.
#pragma once
#include <cstdint>
#include <span>

namespace inkstone {

/// Fills `out` with the f32 numbers of `torch.randn(n, generator=torch.Generator().manual_seed(seed))`: mt19937 seeded
/// with the seed's low 32 bits and the Box-Muller transform in the order that torch uses (scalar below 16 numbers,
/// blocks of 16 from there on; aten/src/ATen/native/cpu/DistributionTemplates.h).
void torch_normal(uint64_t seed, std::span<float> out);

}  // namespace inkstone
