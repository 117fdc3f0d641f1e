// Squares of numbers, turned in registers. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/functions.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// A square of kLanes x kLanes. Each round takes the row number's lowest bit for the lane number's highest; after as
/// many rounds as either has bits they have changed places. Moves bits only, so the lanes may hold anything.
inline void transpose(Floats (&square)[kLanes]) {
  for (int64_t round = 1; round < kLanes; round *= 2) {
    Floats next[kLanes];
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      next[i] = even_lanes(square[2 * i], square[2 * i + 1]);
      next[i + kLanes / 2] = odd_lanes(square[2 * i], square[2 * i + 1]);
    }
    for (int64_t i = 0; i < kLanes; ++i) square[i] = next[i];
  }
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
