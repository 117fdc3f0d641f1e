// Makes packed numbers of f32 ones: the way back from ops/expand.inl.
#pragma once
#include "core/dtype.h"
#include "ops/weight_format.h"

namespace inkstone {

/// Where a row of affine4 or affine8 goes: `blocks` as in PackedRow, a scale and an offset for each group.
struct AffineRow {
  uint8_t* blocks;
  bf16_t* scales;
  bf16_t* offsets;
};

/// Packs n numbers, none beyond 1e37, in groups of `group` (a multiple of 8 that divides n). Each group gets the scale
/// and offset, of those that a search tries, with the least squared error of what ops/expand.inl makes of the codes;
/// the group's least and greatest number are the first try, so that the error is never above that of taking these.
/// `importance` (n), none negative, weighs the squares; null: all alike.
void quantize_affine(WeightFormat format, const float* numbers, const float* importance, int64_t n, int64_t group,
                     const AffineRow& to);

constexpr float kGreatestE4m3 = 448;

/// The nearest number of OCP's E4M3, ties to even; beyond 448 it is 448. `x` is not NaN.
uint8_t to_e4m3(float x);

}  // namespace inkstone
