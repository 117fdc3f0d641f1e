// Reading weights of any format inside kernels. Files that include this are built without fused multiply-adds: the
// definition of the formats rounds each product and sum.
#pragma once
#if !defined(INKSTONE_NO_FMAD)
#error "a file that reads packed weights is to be built with -fmad=false, see cmake/cuda.cmake"
#endif
#include "cuda/numbers.cuh"
#include "ops/expand.inl"

namespace inkstone::cuda {

constexpr int kWordBits = 32;

/// Whether it is blocks that must be expanded as a whole.
inline bool is_packed(const Matrix& m) { return layout_of(m.format).numbers > 1 && m.offsets.data == nullptr; }

/// One number of a matrix whose numbers stand alone.
__device__ inline float element(const Matrix& m, int64_t row, int64_t column) {
  constexpr int kByte = 8;
  const int64_t i = row * m.in + column;
  const auto* bytes = static_cast<const uint8_t*>(m.data);
  if (m.offsets.data != nullptr)
    return load(m.scales, i / m.group) * static_cast<float>(code_at(bytes, i, m.bits)) + load(m.offsets, i / m.group);
  const float x = number_at(m.format, bytes + i * (m.bits / kByte));
  return m.scales.data == nullptr ? x : load(m.scales, i / m.group) * x;
}

/// The numbers of a word of codes.
template <int kBits>
__device__ void expand_word(uint32_t word, float scale, float offset, float* values) {
#pragma unroll
  for (int c = 0; c < kWordBits / kBits; ++c) {
    const uint32_t code = (word >> (c * kBits)) & ((1u << kBits) - 1u);
    values[c] = scale * static_cast<float>(code) + offset;
  }
}

}  // namespace inkstone::cuda
