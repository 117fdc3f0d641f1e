#include "core/random.h"

#include <cmath>
#include <numbers>
#include <random>

namespace inkstone {
namespace {

constexpr size_t kBlock = 16;  // numbers that torch's vectorised form transforms together

float uniform_f32(std::mt19937& engine) {
  constexpr uint32_t kMantissa = (1u << 24) - 1;
  return static_cast<float>(engine() & kMantissa) * 0x1p-24f;
}

double uniform_f64(std::mt19937& engine) {
  constexpr uint64_t kMantissa = (uint64_t{1} << 53) - 1;
  const uint64_t high = engine();
  const uint64_t low = engine();
  return static_cast<double>(((high << 32) | low) & kMantissa) * 0x1p-53;
}

/// Uniform numbers to normal ones: the first half gives the radii, the second the angles.
void transform_block(float* block) {
  constexpr size_t half = kBlock / 2;
  for (size_t i = 0; i < half; ++i) {
    const float radius = std::sqrt(-2.0f * std::log(1.0f - block[i]));
    const float angle = 2.0f * std::numbers::pi_v<float> * block[i + half];
    block[i] = radius * std::cos(angle);
    block[i + half] = radius * std::sin(angle);
  }
}

void fill_in_blocks(std::mt19937& engine, std::span<float> out) {
  for (float& x : out) x = uniform_f32(engine);
  for (size_t i = 0; i + kBlock <= out.size(); i += kBlock) transform_block(&out[i]);
  if (out.size() % kBlock == 0) return;
  float* last = &out[out.size() - kBlock];  // drawn again: it overlaps the block before
  for (size_t i = 0; i < kBlock; ++i) last[i] = uniform_f32(engine);
  transform_block(last);
}

/// In f64, and two numbers from each pair of draws.
void fill_one_by_one(std::mt19937& engine, std::span<float> out) {
  for (size_t i = 0; i < out.size(); i += 2) {
    const double angle = 2 * std::numbers::pi * uniform_f64(engine);
    const double radius = std::sqrt(-2 * std::log1p(-uniform_f64(engine)));
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < out.size()) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace

void torch_normal(uint64_t seed, std::span<float> out) {
  std::mt19937 engine(static_cast<uint32_t>(seed));
  if (out.size() < kBlock) {
    fill_one_by_one(engine, out);
  } else {
    fill_in_blocks(engine, out);
  }
}

}  // namespace inkstone
