// Which products of 16 bits pay on this machine: some processors multiply bf16 at twice the rate of f32, others at half
// of it.
#pragma once
#include <optional>

#include "cpu/half_ops.h"

namespace inkstone {

/// Of one core in its registers, multiply-adds a second; 0: this processor or the instruction set has no such products.
struct HalfRates {
  double f32 = 0;
  double fp16 = 0;
  double bf16 = 0;
};

struct HalfChoice {
  const HalfOps* ops = nullptr;  ///< null: f32
  HalfRates rates = {};          ///< zeros: nothing was measured
};

/// The fastest, FP16 of two alike since it has more digits; nothing, which is f32, unless one is clearly faster.
std::optional<HalfKind> fastest_kind(const HalfRates& rates);

/// The fastest that this machine has. Measured once in a process, in some milliseconds, so that all of its pictures are
/// alike; where a kind is just about clearly faster, another process may choose otherwise and round otherwise.
HalfChoice fastest_half(Isa isa);

/// What was asked for. Throws Error where the processor or the instruction set lacks it.
HalfChoice chosen_half(Isa isa, HalfKind kind);

/// "fp16", "bf16", "f32"
const char* name_of(const HalfChoice& choice);

}  // namespace inkstone
