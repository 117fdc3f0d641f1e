// Which products of 16 bits pay on this machine: some processors multiply bf16 at twice the rate of f32, others at half
// of it.
#pragma once
#include "cpu/half_ops.h"

namespace inkstone {

struct HalfChoice {
  const HalfOps* ops = nullptr;  ///< null: f32
  double f32_rate = 0;           ///< of one core in its registers, multiply-adds a second
  double fp16_rate = 0;          ///< 0: this processor or the instruction set has no such products
  double bf16_rate = 0;
};

/// The fastest, f32 unless one is clearly faster. Measured once in a process, in some milliseconds, so that all of its
/// pictures are alike.
HalfChoice fastest_half(Isa isa);

/// What was asked for. Throws Error where the processor or the instruction set lacks it.
HalfChoice chosen_half(Isa isa, HalfKind kind);

/// "fp16", "bf16", "f32"
const char* name_of(const HalfChoice& choice);

}  // namespace inkstone
