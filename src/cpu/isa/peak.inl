// How fast this instruction set multiplies and adds when nothing else is in its way.
#pragma once
#include <cstdint>

namespace inkstone::INKSTONE_ISA {
namespace {

/// Enough chains to hide the latency of a multiply-add on both ports of every processor so far.
constexpr int kChains = 12;

/// kChains * kLanes multiply-adds in each of `rounds`; the result must be used, or nothing would be computed.
float multiply_add_chains(int64_t rounds, float start) {
  Floats chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = splat(start + static_cast<float>(i));
  const Floats factor = splat(0.999f), term = splat(0.001f);
  for (int64_t r = 0; r < rounds; ++r)
    for (int i = 0; i < kChains; ++i) chains[i] = fma(chains[i], factor, term);
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sum(chains[i]);
  return total;
}

constexpr int64_t kMultiplyAddsPerRound = kChains * kLanes;

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
