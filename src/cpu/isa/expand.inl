// Weights as f32. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/numbers.inl"
#include "ops/expand.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

template <class Numbers>
void expand_numbers(const PackedRow& row, int64_t n, float* out) {
  const Numbers numbers(row);
  for_vectors(n, [&](int64_t i, int64_t width) { store_some(out + i, numbers.some(i, width), width); });
}

/// Group by group, of any size. Those that are no multiple of a vector end in a padded one.
template <class Codes>
void expand_affine(const PackedRow& row, int64_t n, float* out) {
  const uint8_t* codes = row.blocks;
  const float *scale = row.scales, *offset = row.offsets;
  for (int64_t begin = 0; begin < n; begin += row.group, codes += row.group * Codes::kBits / 8, ++scale, ++offset) {
    const Codes group(splat(*scale), splat(*offset));
    for_vectors(row.group < n - begin ? row.group : n - begin, [&](int64_t i, int64_t width) {
      store_some(out + begin + i, some_numbers(group, codes + i * Codes::kBits / 8, width), width);
    });
  }
}

/// Formats without loops of their own have the plain ones, compiled for these vectors.
Expand expander(WeightFormat format) {
  switch (format) {
    case WeightFormat::f16:
      return expand_numbers<F16Numbers>;
    case WeightFormat::bf16:
      return expand_numbers<Bf16Numbers>;
    case WeightFormat::affine4:
      return expand_affine<SmallCodes>;
    case WeightFormat::affine8:
      return expand_affine<ByteCodes>;
    default:
      return plain_expander(format);
  }
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
