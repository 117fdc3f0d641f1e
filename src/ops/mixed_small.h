// Codes of 4 bits in MixedOrder: each stands for a code of 8 bits, step * it + offset.
#pragma once
#include "ops/mixed_order.h"
#include "ops/weight.h"

namespace inkstone {

/// As expand_mixed_codes().
void expand_small_codes(const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out);

/// Rounds `count` mixed numbers, a group of one output from an input on, to codes, steps and offsets of a weight. Gives
/// the group's scale.
float round_small_group(const float* mixed, int64_t count, const Weight& to, int64_t output, int64_t input);

}  // namespace inkstone
