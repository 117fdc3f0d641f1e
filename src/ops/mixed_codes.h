// The way to and from codes that lie in MixedOrder, as plain loops: value = mixed(code * scale) * factor of the input.
// A code of 4 bits stands for step * it + offset, which is a code of 8 bits.
#pragma once
#include "ops/mixed_order.h"
#include "ops/weight.h"

namespace inkstone {

/// What such files say of themselves, in 64 bytes.
inline constexpr std::string_view kMixedDescription =
    R"({"order":"48 outputs x 4 inputs","panel":3072,"group":384}      )";
inline constexpr std::string_view kMixedSmallDescription =
    R"({"order":"48 outputs x 4+4","panel":3072,"groups":[384,64]}     )";  // of 4 bits
static_assert(kMixedDescription.size() == 64 && kMixedSmallDescription.size() == 64,
              "what lies behind it keeps its place in a line of the caches");

/// Mixes a group of up to kMixedGroup numbers, or takes it apart again: the rotation is its own inverse.
void mix_group(float* numbers, int64_t count);

/// Inputs [begin, end) of one output of a weight with factors; `begin` is where a group begins, `end` where one ends.
/// Host tensors only.
void expand_mixed_row(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out);

/// The same before they are taken apart and multiplied by the factors: codes times scales.
void expand_mixed_codes(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out);

/// Host memory for a weight (out, in) in affine8 or affine4, whose inputs `factors` even out; codes and scales are not
/// written yet.
Weight empty_mixed(WeightFormat format, int64_t out, int64_t in, const Tensor& factors);

/// Rounds numbers (out, in), none beyond 1e37, to a weight's codes, scales and, with 4 bits, steps and offsets; its
/// factors are there.
void quantize_mixed(const float* numbers, const Weight& to);

}  // namespace inkstone
