// Products of numbers of 16 bits, compiled once per kind and picked when the device is made.
//
// Two numbers lie in the place of an f32, in rows and in panels alike: inputs 2p and 2p + 1 of a row, or of an output,
// are place p. So the walk over tiles is that of f32 with half as many places. As vector_ops.h, this header names no
// std template.
#pragma once
#include "cpu/vector_ops.h"

namespace inkstone {

/// What numbers are rounded to, to nearest, ties to even.
enum class HalfKind : uint8_t {
  fp16,  ///< 11 digits; short sums are in 16 bits too, then f32. Rows and outputs are scaled by powers of two to fit.
  bf16,  ///< 8 digits, sums in f32
};

struct HalfOps {
  HalfKind kind;
  PanelOps panel;

  /// A row of n numbers as (n + 1) / 2 places, and what its products are to be multiplied with. A row with NaN or
  /// infinity keeps them.
  void (*round_row)(const float* x, int64_t n, float* places, float* scale);

  /// Independent chains of products in registers, for measuring what the processor can do.
  float (*multiply_add_chains)(int64_t rounds, float start);
  int64_t multiply_adds_per_round;
};

/// "fp16", "bf16"
const char* name_of(HalfKind kind);

/// Null where the instruction set or this processor has no such products. Tiles are those of the instruction set.
const HalfOps* half_ops(Isa isa, HalfKind kind);

}  // namespace inkstone
