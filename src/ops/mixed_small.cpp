#include "ops/mixed_small.h"

#include <algorithm>
#include <cmath>

#include "ops/quantize.h"

namespace inkstone {
namespace {

constexpr int kGreatestCode = 15;
constexpr int kGreatestByte = 255;
constexpr int kUpper = 4;  // bits below the upper code of a byte
constexpr int kGreatestStep = kGreatestByte / kGreatestCode;
constexpr float kToWhole = 0x1.8p23f;  // added and subtracted, it rounds small numbers to whole ones, ties to even
constexpr int64_t kSmallGroups = kMixedGroup / kMixedSmallGroup;

/// A small group's bytes are step * code + offset.
struct Step {
  int step = 1;
  int offset = kMixedOffset;
};

/// What a search without whole steps finds for a small group: value = scale * code + offset.
struct Found {
  float scale = 0;
  float offset = 0;

  float greatest() const { return offset + kGreatestCode * scale; }
};

Found found_for(const float* numbers, int64_t count) {
  uint8_t blocks[kMixedSmallGroup / 2];
  bf16_t scale, offset;
  quantize_affine(WeightFormat::affine4, numbers, nullptr, count, count,
                  {.blocks = blocks, .scales = &scale, .offsets = &offset});
  return {to_float(scale), to_float(offset)};
}

/// The least scale with which every small group's codes are bytes.
float scale_for(const Found* found, int64_t groups) {
  float scale = kMixedLeastDivisor / kMixedOffset;
  for (int64_t g = 0; g < groups; ++g)
    scale = std::max({scale, found[g].scale / kGreatestStep, -found[g].offset / kMixedOffset,
                      found[g].greatest() / (kGreatestByte - kMixedOffset)});
  return scale;
}

/// Codes of a small group's numbers, and their squared error.
float encode(const float* numbers, int64_t count, float scale, const Step& s, float* codes) {
  const float inverse = 1 / (scale * static_cast<float>(s.step)), step = scale * static_cast<float>(s.step);
  const float least = scale * static_cast<float>(s.offset - kMixedOffset);
  float error = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float place = std::clamp((numbers[i] - least) * inverse, 0.0f, static_cast<float>(kGreatestCode));
    codes[i] = (place + kToWhole) - kToWhole;
    const float difference = step * codes[i] + least - numbers[i];
    error += difference * difference;
  }
  return error;
}

/// The best of the whole steps and offsets beside what was found; `codes` are those of the best.
Step step_for(const float* numbers, int64_t count, float scale, const Found& found, float* codes) {
  Step best;
  float least_error = -1;
  float tried[kMixedSmallGroup];
  const float steps = found.scale / scale, middle = (found.offset + found.greatest()) / 2 / scale + kMixedOffset;
  for (const float beside : {-1.0f, 0.0f, 1.0f}) {
    const int step = static_cast<int>(std::clamp<float>(std::nearbyint(steps) + beside, 1, kGreatestStep));
    const float offset = std::nearbyint(middle - static_cast<float>(kGreatestCode * step) / 2);
    for (const float away : {-1.0f, 0.0f, 1.0f}) {
      const auto most = static_cast<float>(kGreatestByte - kGreatestCode * step);
      const Step s = {step, static_cast<int>(std::clamp(offset + away, 0.0f, most))};
      const float error = encode(numbers, count, scale, s, tried);
      if (least_error >= 0 && !(error < least_error)) continue;
      least_error = error, best = s;
      std::copy_n(tried, count, codes);
    }
  }
  return best;
}

/// Changes codes so that the errors of some numbers add up to next to nothing.
void balance(const float* numbers, int64_t count, float scale, const Step& s, float* codes) {
  const float inverse = 1 / (scale * static_cast<float>(s.step)), offset = static_cast<float>(s.offset - kMixedOffset);
  float errors[kMixedSpacing], sum = 0;  // in steps
  for (int64_t i = 0; i < count; ++i) sum += errors[i] = codes[i] - (numbers[i] - scale * offset) * inverse;
  while (std::abs(sum) > 0.5f) {
    const float change = sum > 0 ? -1 : 1;
    int64_t best = -1;
    for (int64_t i = 0; i < count; ++i) {
      const bool fits = codes[i] + change >= 0 && codes[i] + change <= kGreatestCode;
      if (fits && (best < 0 || errors[i] * change < errors[best] * change)) best = i;
    }
    if (best < 0) return;
    codes[best] += change, errors[best] += change, sum += change;
  }
}

/// Whether a group's numbers from here on are the sums of those that were mixed: of inputs with a mean, as behind a
/// GELU, they have all of it.
bool are_sums(int64_t at, int64_t count) {
  for (const int64_t of : {16, 8, 4})
    for (const int64_t block = of * kMixedSpacing; count >= block; count -= block, at -= block)
      if (at < block) return at == 0;
  return false;
}

}  // namespace

void expand_small_codes(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out) {
  const MixedOrder order = {weight.out, weight.in};
  const int64_t columns = order.columns(MixedOrder::strip_of(row));
  for (int64_t at = begin; at < end; at += kMixedSmallGroup) {
    const float scale = weight.scales.data<const float>()[order.scale(row, at)];
    const uint8_t* steps = weight.offsets.data<const uint8_t>() + order.step(row, at);
    const int step = steps[0], offset = steps[columns];
    const auto number = [&](int code) {
      const auto byte = static_cast<uint8_t>(step * (code & kGreatestCode) + offset);
      return static_cast<float>(byte - kMixedOffset) * scale;
    };
    const uint8_t* codes = weight.data.data<const uint8_t>() + order.pair(row, at);
    const int64_t pairs = std::min(kMixedSmallGroup, end - at) / kMixedPair;
    for (int64_t pair = 0; pair < pairs; ++pair, codes += columns * kMixedStep, out += kMixedPair)
      for (int64_t k = 0; k < kMixedStep; ++k) {
        out[k] = number(codes[k]);
        out[kMixedStep + k] = number(codes[k] >> kUpper);
      }
  }
}

float round_small_group(const float* mixed, int64_t count, const Weight& to, int64_t output, int64_t input) {
  const MixedOrder order = {to.out, to.in};
  const int64_t columns = order.columns(MixedOrder::strip_of(output));
  const auto numbers_of = [&](int64_t at) { return std::min(kMixedSmallGroup, count - at); };
  Found found[kSmallGroups];
  for (int64_t at = 0; at < count; at += kMixedSmallGroup)
    found[at / kMixedSmallGroup] = found_for(mixed + at, numbers_of(at));
  const float scale = scale_for(found, MixedOrder::small_groups_in(count));
  for (int64_t at = 0; at < count; at += kMixedSmallGroup) {
    float codes[kMixedSmallGroup];
    const Step s = step_for(mixed + at, numbers_of(at), scale, found[at / kMixedSmallGroup], codes);
    if (are_sums(at, count)) balance(mixed + at, kMixedSpacing, scale, s, codes);
    uint8_t* steps = to.offsets.data<uint8_t>() + order.step(output, input + at);
    steps[0] = static_cast<uint8_t>(s.step);
    steps[columns] = static_cast<uint8_t>(s.offset);
    for (int64_t i = 0; i < numbers_of(at); ++i) {
      uint8_t& byte = to.data.data<uint8_t>()[order.pair(output, input + at + i)];
      const int code = static_cast<int>(codes[i]);
      byte =
          static_cast<uint8_t>(MixedOrder::is_upper(input + at + i) ? (byte & kGreatestCode) | code << kUpper : code);
    }
  }
  return scale;
}

}  // namespace inkstone
