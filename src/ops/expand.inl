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

void expand_plain_f32(const PackedRow& row, int64_t n, float* out) {
  __builtin_memcpy(out, row.blocks, static_cast<uint64_t>(n) * sizeof(float));
}

void expand_plain_f16(const PackedRow& row, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = half_of(bits_at<uint16_t>(row.blocks + 2 * i));
}

void expand_plain_bf16(const PackedRow& row, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = float_of(uint32_t{bits_at<uint16_t>(row.blocks + 2 * i)} << 16);
}

INKSTONE_ANYWHERE inline float e4m3_of(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fu;
  const float finite = raised(magnitude << 20, 127 - 7, 1u << 23);
  const uint32_t nan = 0x7fc00000u & mask_of(magnitude == 0x7fu);  // the only one
  return float_of(bits_of(finite) | nan | (bits & 0x80u) << 24);
}

INKSTONE_ANYWHERE inline float e5m2_of(uint32_t bits) { return half_of(bits << 8); }

template <float (*number_of)(uint32_t bits)>
void expand_plain_fp8(const PackedRow& row, int64_t n, float* __restrict out) {
  const uint8_t* __restrict codes = row.blocks;
  const int64_t group = row.scales == nullptr ? n : row.group;
  for (int64_t begin = 0; begin < n; begin += group) {
    const float scale = row.scales == nullptr ? 1 : row.scales[begin / group];
    const int64_t end = begin + group < n ? begin + group : n;
    for (int64_t i = begin; i < end; ++i) out[i] = scale * number_of(codes[i]);
  }
}

template <int bits>
void expand_plain_affine(const PackedRow& row, int64_t n, float* out) {
  constexpr int kCodesPerByte = 8 / bits;
  constexpr int kMask = (1 << bits) - 1;
  for (int64_t i = 0; i < n; ++i) {
    const int code = (row.blocks[i / kCodesPerByte] >> (i % kCodesPerByte * bits)) & kMask;
    out[i] = row.scales[i / row.group] * static_cast<float>(code) + row.offsets[i / row.group];
  }
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
      return expand_plain_f32;
    case WeightFormat::f16:
      return expand_plain_f16;
    case WeightFormat::bf16:
      return expand_plain_bf16;
    case WeightFormat::affine4:
      return expand_plain_affine<4>;
    case WeightFormat::affine8:
      return expand_plain_affine<8>;
    case WeightFormat::f8_e4m3:
      return expand_plain_fp8<e4m3_of>;
    case WeightFormat::f8_e5m2:
      return expand_plain_fp8<e5m2_of>;
    default:
      return form_of_blocks<RowOfBlocks>(format);
  }
}

}  // namespace
}  // namespace inkstone
