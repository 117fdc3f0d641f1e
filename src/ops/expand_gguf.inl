// The blocks of GGUF's tensors, for ops/expand.inl. Layouts and the order of roundings are those of the Python package
// gguf (gguf/quants.py of https://github.com/ggml-org/llama.cpp), which the tests compare with bit by bit.
#pragma once
#include "ops/number_bits.inl"
#include "ops/weight_format.h"

namespace inkstone {
namespace {

constexpr int kSmallBlock = 32;  // numbers of a block that ends in _0, _1 or _nl
constexpr int kHalfBlock = kSmallBlock / 2;
constexpr int kLargeBlock = 256;  // numbers of a block that ends in _k or _xs

INKSTONE_ANYWHERE inline float half_at(const uint8_t* bytes) { return half_of(bits_at<uint16_t>(bytes)); }

/// 16 bytes of two codes each: the lower halves are numbers 0 to 15, the upper ones 16 to 31. value(code, number)
template <class Value>
INKSTONE_ANYWHERE inline void expand_nibbles(const uint8_t* __restrict codes, float* __restrict out,
                                             const Value& value) {
  for (int i = 0; i < kHalfBlock; ++i) {
    out[i] = value(codes[i] & 15, i);
    out[i + kHalfBlock] = value(codes[i] >> 4, i + kHalfBlock);
  }
}

INKSTONE_ANYWHERE void expand_q4_0(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block);
  expand_nibbles(block + 2, out, [=](int code, int) { return d * static_cast<float>(code - 8); });
}

INKSTONE_ANYWHERE void expand_q4_1(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block), m = half_at(block + 2);
  expand_nibbles(block + 4, out, [=](int code, int) { return d * static_cast<float>(code) + m; });
}

/// The fifth bit of code i is bit i of a word.
INKSTONE_ANYWHERE inline int fifth_bit(uint32_t word, int i) { return static_cast<int>((word >> i) & 1u) << 4; }

INKSTONE_ANYWHERE void expand_q5_0(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block);
  const auto high = bits_at<uint32_t>(block + 2);
  expand_nibbles(block + 6, out,
                 [=](int code, int i) { return d * static_cast<float>((code | fifth_bit(high, i)) - 16); });
}

INKSTONE_ANYWHERE void expand_q5_1(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block), m = half_at(block + 2);
  const auto high = bits_at<uint32_t>(block + 4);
  expand_nibbles(block + 8, out,
                 [=](int code, int i) { return d * static_cast<float>(code | fifth_bit(high, i)) + m; });
}

INKSTONE_ANYWHERE void expand_q8_0(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

/// Sixteen groups of 16: 2 bits a number, a scale and a minimum of 4 bits a group.
INKSTONE_ANYWHERE void expand_q2_k(const uint8_t* __restrict block, float* __restrict out) {
  constexpr int kGroup = 16;
  const uint8_t *scales = block, *codes = block + 16;
  const float d = half_at(block + 80), min = half_at(block + 82);
  for (int group = 0; group < kLargeBlock / kGroup; ++group) {
    const float scale = d * static_cast<float>(scales[group] & 15),
                offset = min * static_cast<float>(scales[group] >> 4);
    const uint8_t* from = codes + group / 8 * 32 + group % 2 * kGroup;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < kGroup; ++i)
      out[group * kGroup + i] = scale * static_cast<float>((from[i] >> shift) & 3) - offset;
  }
}

/// Sixteen groups of 16: 3 bits a number, the third one apart and inverted, a scale of 6 bits a group.
INKSTONE_ANYWHERE void expand_q3_k(const uint8_t* __restrict block, float* __restrict out) {
  constexpr int kGroup = 16;
  const uint8_t *high = block, *codes = block + 32, *scales = block + 96;
  const float d = half_at(block + 108);
  for (int group = 0; group < kLargeBlock / kGroup; ++group) {
    const int low_scale = (scales[group % 8] >> (group / 8 * 4)) & 15;
    const int high_scale = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((low_scale | high_scale << 4) - 32);
    const uint8_t* from = codes + group / 8 * 32 + group % 2 * kGroup;
    const uint8_t* high_from = high + group % 2 * kGroup;
    const int shift = group % 8 / 2 * 2, bit = group / 2;
    for (int i = 0; i < kGroup; ++i)
      out[group * kGroup + i] =
          scale * static_cast<float>(((from[i] >> shift) & 3) - ((high_from[i] >> bit) & 1 ? 0 : 4));
  }
}

/// The scale and the minimum, 6 bits each, of one of the eight groups of 32 of q4_k and q5_k.
struct SixBits {
  INKSTONE_ANYWHERE SixBits(const uint8_t* packed, int group) {
    if (group < 4) {
      scale = packed[group] & 63;
      min = packed[group + 4] & 63;
    } else {
      scale = (packed[group + 4] & 15) | ((packed[group - 4] >> 2) & 48);
      min = packed[group + 4] >> 4 | ((packed[group] >> 2) & 48);
    }
  }
  int scale, min;
};

INKSTONE_ANYWHERE void expand_q4_k(const uint8_t* __restrict block, float* __restrict out) {
  constexpr int kGroup = 32;
  const float d = half_at(block), min = half_at(block + 2);
  const uint8_t *scales = block + 4, *codes = block + 16;
  for (int group = 0; group < kLargeBlock / kGroup; ++group) {
    const SixBits packed(scales, group);
    const float scale = d * static_cast<float>(packed.scale), offset = min * static_cast<float>(packed.min);
    const uint8_t* from = codes + group / 2 * kGroup;
    const int shift = group % 2 * 4;
    for (int i = 0; i < kGroup; ++i)
      out[group * kGroup + i] = scale * static_cast<float>((from[i] >> shift) & 15) - offset;
  }
}

INKSTONE_ANYWHERE void expand_q5_k(const uint8_t* __restrict block, float* __restrict out) {
  constexpr int kGroup = 32;
  const float d = half_at(block), min = half_at(block + 2);
  const uint8_t *scales = block + 4, *high = block + 16, *codes = block + 48;
  for (int group = 0; group < kLargeBlock / kGroup; ++group) {
    const SixBits packed(scales, group);
    const float scale = d * static_cast<float>(packed.scale), offset = min * static_cast<float>(packed.min);
    const uint8_t* from = codes + group / 2 * kGroup;
    const int shift = group % 2 * 4;
    for (int i = 0; i < kGroup; ++i)
      out[group * kGroup + i] =
          scale * static_cast<float>(((from[i] >> shift) & 15) | ((high[i] >> group) & 1) << 4) - offset;
  }
}

/// Sixteen groups of 16: 4 + 2 bits a number, a scale of 8 bits a group.
INKSTONE_ANYWHERE void expand_q6_k(const uint8_t* __restrict block, float* __restrict out) {
  constexpr int kGroup = 16;
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float d = half_at(block + 208);
  for (int group = 0; group < kLargeBlock / kGroup; ++group) {
    const int half = group / 8;
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[group]));
    const uint8_t* low_from = low + half * 64 + group % 4 * kGroup;
    const uint8_t* high_from = high + half * 32 + group % 2 * kGroup;
    const int low_shift = group % 8 / 4 * 4, high_shift = group % 8 / 2 * 2;
    for (int i = 0; i < kGroup; ++i) {
      const int code = ((low_from[i] >> low_shift) & 15) | ((high_from[i] >> high_shift) & 3) << 4;
      out[group * kGroup + i] = scale * static_cast<float>(code - 32);
    }
  }
}

/// What a code of 4 bits of iq4_nl and iq4_xs stands for.
INKSTONE_ANYWHERE inline float uneven_step(int code) {
  constexpr int8_t kSteps[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return static_cast<float>(kSteps[code]);
}

INKSTONE_ANYWHERE void expand_iq4_nl(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block);
  expand_nibbles(block + 2, out, [=](int code, int) { return d * uneven_step(code); });
}

/// Eight groups of 32, a scale of 6 bits a group.
INKSTONE_ANYWHERE void expand_iq4_xs(const uint8_t* __restrict block, float* __restrict out) {
  const float d = half_at(block);
  const auto high = bits_at<uint16_t>(block + 2);
  const uint8_t *low = block + 4, *codes = block + 8;
  for (int group = 0; group < kLargeBlock / kSmallBlock; ++group) {
    const int low_scale = (low[group / 2] >> (group % 2 * 4)) & 15, high_scale = (high >> (2 * group)) & 3;
    const float scale = d * static_cast<float>((low_scale | high_scale << 4) - 32);
    expand_nibbles(codes + group * kHalfBlock, out + group * kSmallBlock,
                   [=](int code, int) { return scale * uneven_step(code); });
  }
}

/// What Form::of<format, loop over a block>() gives for a format of blocks; null for another one. So the loops' only
/// list serves every device.
template <class Form>
auto form_of_blocks(WeightFormat format) -> decltype(Form::template of<WeightFormat::q4_0, expand_q4_0>()) {
  switch (format) {
    case WeightFormat::q4_0:
      return Form::template of<WeightFormat::q4_0, expand_q4_0>();
    case WeightFormat::q4_1:
      return Form::template of<WeightFormat::q4_1, expand_q4_1>();
    case WeightFormat::q5_0:
      return Form::template of<WeightFormat::q5_0, expand_q5_0>();
    case WeightFormat::q5_1:
      return Form::template of<WeightFormat::q5_1, expand_q5_1>();
    case WeightFormat::q8_0:
      return Form::template of<WeightFormat::q8_0, expand_q8_0>();
    case WeightFormat::q2_k:
      return Form::template of<WeightFormat::q2_k, expand_q2_k>();
    case WeightFormat::q3_k:
      return Form::template of<WeightFormat::q3_k, expand_q3_k>();
    case WeightFormat::q4_k:
      return Form::template of<WeightFormat::q4_k, expand_q4_k>();
    case WeightFormat::q5_k:
      return Form::template of<WeightFormat::q5_k, expand_q5_k>();
    case WeightFormat::q6_k:
      return Form::template of<WeightFormat::q6_k, expand_q6_k>();
    case WeightFormat::iq4_nl:
      return Form::template of<WeightFormat::iq4_nl, expand_iq4_nl>();
    case WeightFormat::iq4_xs:
      return Form::template of<WeightFormat::iq4_xs, expand_iq4_xs>();
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace inkstone
