#include "ops/mixed_codes.h"

#include <algorithm>
#include <cmath>

#include "ops/mixed_small.h"

namespace inkstone {
namespace {

/// Numbers kMixedSpacing apart, `count` of them.
void mix_block(float* numbers, int64_t count) {
  const float share = 1 / std::sqrt(static_cast<float>(count));
  for (int64_t apart = kMixedSpacing; apart < count * kMixedSpacing; apart *= 2)
    for (int64_t begin = 0; begin < count * kMixedSpacing; begin += 2 * apart)
      for (int64_t i = begin; i < begin + apart; ++i) {
        const float a = numbers[i], b = numbers[i + apart];
        numbers[i] = a + b;
        numbers[i + apart] = a - b;
      }
  for (int64_t i = 0; i < count * kMixedSpacing; ++i) numbers[i] *= share;
}

/// One output's numbers of a group to codes.
float round_group(const float* mixed, int64_t count, const MixedOrder& order, int64_t output, int64_t input,
                  uint8_t* codes) {
  float greatest = 0;
  for (int64_t i = 0; i < count; ++i) greatest = std::max(greatest, std::abs(mixed[i]));
  const float inverse = kMixedGreatest / std::max(kMixedLeastDivisor, greatest);
  uint8_t* to = codes + order.code(output, input);
  const int64_t step = order.columns(MixedOrder::strip_of(output)) * kMixedStep;
  for (int64_t i = 0; i < count; ++i)
    to[i / kMixedStep * step + i % kMixedStep] =
        static_cast<uint8_t>(static_cast<int64_t>(std::nearbyint(mixed[i] * inverse)) + kMixedOffset);
  return greatest / kMixedGreatest;
}

}  // namespace

void mix_group(float* numbers, int64_t count) {
  for (const int64_t of : {16, 8, 4})
    for (; count >= of * kMixedSpacing; count -= of * kMixedSpacing, numbers += of * kMixedSpacing)
      mix_block(numbers, of);
}

void expand_mixed_codes(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out) {
  if (weight.format == WeightFormat::affine4) return expand_small_codes(weight, row, begin, end, out);
  const MixedOrder order = {weight.out, weight.in};
  const int64_t step = order.columns(MixedOrder::strip_of(row)) * kMixedStep;
  for (int64_t at = begin, group_end = 0; at < end; at = group_end) {
    group_end = std::min(at + kMixedGroup, end);
    const uint8_t* codes = weight.data.data<const uint8_t>() + order.code(row, at);
    const float scale = weight.scales.data<const float>()[order.scale(row, at)];
    for (int64_t i = at; i < group_end; i += kMixedStep, codes += step)
      for (int64_t k = 0; k < kMixedStep; ++k) *out++ = static_cast<float>(int64_t{codes[k]} - kMixedOffset) * scale;
  }
}

void expand_mixed_row(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out) {
  expand_mixed_codes(weight, row, begin, end, out);
  const float* factors = weight.factors.data<const float>() + begin;
  for (int64_t at = begin; at < end; at += kMixedGroup) mix_group(out + at - begin, std::min(kMixedGroup, end - at));
  for (int64_t i = 0; i < end - begin; ++i) out[i] *= factors[i];
}

Weight empty_mixed(WeightFormat format, int64_t out, int64_t in, const Tensor& factors) {
  const bool small = format == WeightFormat::affine4;
  Weight made = {.format = format,
                 .out = out,
                 .in = in,
                 .data = host_tensor({out, small ? in / 2 : in}, DType::u8),
                 .scales = host_tensor({MixedOrder::groups_in(in), out}, DType::f32),
                 .group = kMixedGroup,
                 .factors = factors};
  if (small) made.offsets = host_tensor({2 * MixedOrder::small_groups_in(in), out}, DType::u8);
  return made;
}

void quantize_mixed(const float* numbers, const Weight& to) {
  const MixedOrder order = {to.out, to.in};
  float mixed[kMixedGroup];
  for (int64_t row = 0; row < to.out; ++row, numbers += to.in)
    for (int64_t at = 0; at < to.in; at += kMixedGroup) {
      const int64_t count = std::min(kMixedGroup, to.in - at);
      for (int64_t i = 0; i < count; ++i) mixed[i] = numbers[at + i] / to.factors.data<const float>()[at + i];
      mix_group(mixed, count);
      to.scales.data<float>()[order.scale(row, at)] =
          to.format == WeightFormat::affine4 ? round_small_group(mixed, count, to, row, at)
                                             : round_group(mixed, count, order, row, at, to.data.data<uint8_t>());
    }
}

}  // namespace inkstone
