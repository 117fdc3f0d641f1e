// What the formats of weights mean, in plain loops: the definition, which ops/weight.cpp gives to everyone. The files
// of instruction sets compile these loops again, each for its own vectors; they have none for a format that needs no
// more.
//
// No std templates: see cpu/vector_ops.h. Products and sums are each rounded, nothing is fused.
#pragma once
#include "ops/expand_gguf.inl"
#include "ops/number_bits.inl"
#include "ops/weight_format.h"

namespace inkstone {
namespace {

INKSTONE_ANYWHERE inline float e4m3_of(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fu;
  const float finite = raised(magnitude << 20, 127 - 7, 1u << 23);
  const uint32_t nan = 0x7fc00000u & mask_of(magnitude == 0x7fu);  // the only one
  return float_of(bits_of(finite) | nan | (bits & 0x80u) << 24);
}

INKSTONE_ANYWHERE inline float e5m2_of(uint32_t bits) { return half_of(bits << 8); }

/// A number that stands alone, without its scale.
INKSTONE_ANYWHERE inline float number_at(WeightFormat format, const uint8_t* bytes) {
  switch (format) {
    case WeightFormat::f16:
      return half_of(bits_at<uint16_t>(bytes));
    case WeightFormat::bf16:
      return float_of(uint32_t{bits_at<uint16_t>(bytes)} << 16);
    case WeightFormat::f8_e4m3:
      return e4m3_of(*bytes);
    case WeightFormat::f8_e5m2:
      return e5m2_of(*bytes);
    default:
      return float_of(bits_at<uint32_t>(bytes));
  }
}

template <WeightFormat format>
void expand_plain_numbers(const PackedRow& row, int64_t n, float* __restrict out) {
  constexpr int64_t kBytes = layout_of(format).bytes;
  const uint8_t* __restrict numbers = row.blocks;
  if (row.scales == nullptr) {
    for (int64_t i = 0; i < n; ++i) out[i] = number_at(format, numbers + i * kBytes);
    return;
  }
  for (int64_t begin = 0; begin < n; begin += row.group) {
    const float scale = row.scales[begin / row.group];
    const int64_t end = begin + row.group < n ? begin + row.group : n;
    for (int64_t i = begin; i < end; ++i) out[i] = scale * number_at(format, numbers + i * kBytes);
  }
}

/// Of codes one behind the other, lowest bits first.
INKSTONE_ANYWHERE inline uint32_t code_at(const uint8_t* codes, int64_t i, int bits) {
  constexpr int kByte = 8;
  const int64_t first = i * bits;
  const int shift = static_cast<int>(first % kByte);
  const uint32_t upper = shift + bits > kByte ? codes[first / kByte + 1] : 0u;
  return ((codes[first / kByte] | upper << kByte) >> shift) & ((1u << bits) - 1u);
}

template <WeightFormat format>
void expand_plain_codes(const PackedRow& row, int64_t n, float* out) {
  constexpr int kBits = bits_of(layout_of(format));
  for (int64_t i = 0; i < n; ++i)
    out[i] = row.scales[i / row.group] * static_cast<float>(code_at(row.blocks, i, kBits)) + row.offsets[i / row.group];
}

template <WeightFormat format, void (*expand_block)(const uint8_t* __restrict block, float* __restrict out)>
void expand_blocks(const PackedRow& row, int64_t n, float* out) {
  constexpr BlockLayout kLayout = layout_of(format);
  const uint8_t* block = row.blocks;
  for (int64_t i = 0; i < n; i += kLayout.numbers, block += kLayout.bytes) expand_block(block, out + i);
}

struct RowOfBlocks {
  template <WeightFormat format, void (*expand_block)(const uint8_t* __restrict block, float* __restrict out)>
  static Expand of() {
    return expand_blocks<format, expand_block>;
  }
};

inline Expand plain_expander(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return expand_plain_numbers<WeightFormat::f32>;
    case WeightFormat::f16:
      return expand_plain_numbers<WeightFormat::f16>;
    case WeightFormat::bf16:
      return expand_plain_numbers<WeightFormat::bf16>;
    case WeightFormat::f8_e4m3:
      return expand_plain_numbers<WeightFormat::f8_e4m3>;
    case WeightFormat::f8_e5m2:
      return expand_plain_numbers<WeightFormat::f8_e5m2>;
    case WeightFormat::affine4:
      return expand_plain_codes<WeightFormat::affine4>;
    case WeightFormat::affine8:
      return expand_plain_codes<WeightFormat::affine8>;
    default:
      return form_of_blocks<RowOfBlocks>(format);
  }
}

}  // namespace
}  // namespace inkstone
