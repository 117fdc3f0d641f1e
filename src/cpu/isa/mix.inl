// Mixing groups of numbers before they are rounded to 8 bits. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/int8_ops.h"
#include "cpu/isa/numbers.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// Numbers times factors.
template <class Numbers>
struct FactoredNumbers {
  Numbers numbers;
  const float* factors;

  FactoredNumbers from(int64_t begin) const { return {numbers.from(begin), factors + begin}; }
  Floats some(int64_t i, int64_t n) const { return numbers.some(i, n) * load_some(factors + i, n); }
};

/// Mixes `count` numbers, spacings apart; gives the greatest magnitudes, `most` included.
template <int count, class Numbers>
inline Floats mix_block(const Numbers& numbers, float* to, Floats most) {
  const Floats share = splat(count == 16 ? 0.25f : count == 8 ? 0.353553391f : 0.5f);  // 1 / sqrt(count)
  for (int64_t lane = 0; lane < kInt8MixSpacing; lane += kLanes) {
    Floats x[count];
#pragma GCC unroll 16
    for (int k = 0; k < count; ++k) x[k] = numbers.some(k * kInt8MixSpacing + lane, kLanes);
#pragma GCC unroll 4
    for (int apart = 1; apart < count; apart *= 2)
#pragma GCC unroll 16
      for (int k = 0; k < count; ++k)
        if ((k & apart) == 0) {
          const Floats a = x[k], b = x[k + apart];
          x[k] = a + b;
          x[k + apart] = a - b;
        }
#pragma GCC unroll 16
    for (int k = 0; k < count; ++k) {
      const Floats mixed = x[k] * share;
      store(to + k * kInt8MixSpacing + lane, mixed);
      most = greater_of(most, mixed);
    }
  }
  return most;
}

/// Gives magnitudes whose greatest is the group's.
template <class Numbers>
inline Floats mix_numbers(const Numbers& numbers, int64_t depth, float* to) {
  static_assert(kInt8MixSpacing % kLanes == 0);
  Floats most = splat(0);
  int64_t i = 0;
  for (; depth - i >= 16 * kInt8MixSpacing; i += 16 * kInt8MixSpacing)
    most = mix_block<16>(numbers.from(i), to + i, most);
  for (; depth - i >= 8 * kInt8MixSpacing; i += 8 * kInt8MixSpacing) most = mix_block<8>(numbers.from(i), to + i, most);
  for (; depth - i >= 4 * kInt8MixSpacing; i += 4 * kInt8MixSpacing) most = mix_block<4>(numbers.from(i), to + i, most);
  for_vectors(depth - i, [&](int64_t k, int64_t width) {
    const Floats x = numbers.from(i).some(k, width);
    store_some(to + i + k, x, width);
    most = greater_of(most, x);
  });
  return most;
}

/// The same with factors, unless they are null.
template <class Numbers>
inline Floats mix_group(const Numbers& numbers, const float* factors, int64_t depth, float* to) {
  return factors == nullptr ? mix_numbers(numbers, depth, to)
                            : mix_numbers(FactoredNumbers<Numbers>{numbers, factors}, depth, to);
}

template <class Numbers>
void mix(const PackedRow& row, const float* factors, int64_t depth, float* to, float* most) {
  store(most, mix_group(Numbers(row), factors, depth, to));
}

/// Of groups that files have. Blocks that are mixed become smaller along a row, so each begins where a group does.
template <class Codes>
Mix affine_mixer(int64_t group) {
  switch (group) {
    case 32:
      return mix<AffineNumbers<Codes, 32>>;
    case 64:
      return mix<AffineNumbers<Codes, 64>>;
    case 128:
      return mix<AffineNumbers<Codes, 128>>;
    default:
      return nullptr;
  }
}

Mix mixer(WeightFormat format, int64_t group) {
  switch (format) {
    case WeightFormat::f32:
      return mix<PlainNumbers>;
    case WeightFormat::f16:
      return mix<F16Numbers>;
    case WeightFormat::bf16:
      return mix<Bf16Numbers>;
    case WeightFormat::affine4:
      return affine_mixer<SmallCodes>(group);
    case WeightFormat::affine8:
      return affine_mixer<ByteCodes>(group);
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
