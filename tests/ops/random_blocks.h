// Random blocks of GGUF's formats: the same numbers as tools/fixtures/gguf_blocks.py makes.
#pragma once
#include <span>
#include <vector>

#include "ops/weight_format.h"

namespace inkstone {

/// Bytes from a linear congruential generator (Numerical Recipes' constants).
inline std::vector<uint8_t> random_bytes(int64_t n, uint64_t seed) {
  auto state = static_cast<uint32_t>(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(n));
  for (uint8_t& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return bytes;
}

/// Halves as scales and minima: subnormal, least normal, greatest, zeros, ordinary ones.
inline constexpr uint16_t kExtremeHalves[] = {0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x0000,
                                              0x8000, 0x2e66, 0xa8f5, 0x3c00, 0x7800};
inline constexpr uint16_t kSmallHalves[] = {0x1000, 0x10f0, 0x8f00, 0x1234, 0x0e00};

/// Bytes of a block where halves begin.
inline std::vector<int64_t> halves_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::q4_1:
    case WeightFormat::q5_1:
    case WeightFormat::q4_k:
    case WeightFormat::q5_k:
      return {0, 2};
    case WeightFormat::q2_k:
      return {80, 82};
    case WeightFormat::q3_k:
      return {108};
    case WeightFormat::q6_k:
      return {208};
    default:
      return {0};
  }
}

/// Random bits with the given halves as scales, taking turns.
inline std::vector<uint8_t> random_blocks(WeightFormat format, int64_t count, uint64_t seed,
                                          std::span<const uint16_t> halves) {
  const int64_t bytes = layout_of(format).bytes;
  std::vector<uint8_t> blocks = random_bytes(count * bytes, seed);
  size_t turn = 0;
  for (int64_t block = 0; block < count; ++block)
    for (const int64_t at : halves_of(format)) {
      const uint16_t half = halves[turn++ * 7 % halves.size()];
      blocks[static_cast<size_t>(block * bytes + at)] = static_cast<uint8_t>(half & 255);
      blocks[static_cast<size_t>(block * bytes + at + 1)] = static_cast<uint8_t>(half >> 8);
    }
  return blocks;
}

}  // namespace inkstone
