// Numbers of a row as vectors, by their format. INKSTONE_ISA names the instruction set.
//
// What expand.inl writes and mix.inl takes without writing it. `some(i, n)`: n of the numbers from i on, then whatever
// zeros stand for.
#pragma once
#include "cpu/isa/functions.inl"
#include "ops/weight_format.h"

namespace inkstone::INKSTONE_ISA {
namespace {

struct PlainNumbers {
  const float* x;

  explicit PlainNumbers(const float* numbers) : x(numbers) {}
  explicit PlainNumbers(const PackedRow& row) : x(reinterpret_cast<const float*>(row.blocks)) {}

  PlainNumbers from(int64_t begin) const { return PlainNumbers(x + begin); }
  Floats some(int64_t i, int64_t n) const { return load_some(x + i, n); }
};

template <Floats (*load_halves)(const uint16_t*)>
struct HalfNumbers {
  const uint8_t* halves;

  explicit HalfNumbers(const uint8_t* numbers) : halves(numbers) {}
  explicit HalfNumbers(const PackedRow& row) : halves(row.blocks) {}

  HalfNumbers from(int64_t begin) const { return HalfNumbers(halves + begin * kBytes); }
  Floats some(int64_t i, int64_t n) const {
    const uint8_t* at = halves + i * kBytes;
    if (n == kLanes) return load_halves(reinterpret_cast<const uint16_t*>(at));
    uint16_t last[kLanes] = {};
    __builtin_memcpy(last, at, static_cast<std::size_t>(n * kBytes));
    return load_halves(last);
  }

 private:
  static constexpr int64_t kBytes = sizeof(uint16_t);
};

using F16Numbers = HalfNumbers<load_f16>;
using Bf16Numbers = HalfNumbers<load_bf16>;

/// Of codes of a group; numbers that are missing are read as code 0.
template <class Codes>
inline Floats some_numbers(const Codes& group, const uint8_t* codes, int64_t n) {
  if (n == kLanes) return group.numbers(codes);
  uint8_t last[kLanes * Codes::kBits / 8] = {};
  __builtin_memcpy(last, codes, static_cast<std::size_t>(n * Codes::kBits / 8));
  return group.numbers(last);
}

/// Groups of `group` inputs, whole ones from where a row begins.
template <class Codes, int64_t group>
struct AffineNumbers {
  const uint8_t* codes;
  const float* scales;
  const float* offsets;

  AffineNumbers(const uint8_t* c, const float* s, const float* o) : codes(c), scales(s), offsets(o) {}
  explicit AffineNumbers(const PackedRow& row) : AffineNumbers(row.blocks, row.scales, row.offsets) {}

  /// `begin`: where a group does. So a vector's group is known when this is compiled, and vectors share what it needs.
  AffineNumbers from(int64_t begin) const {
    return {codes + begin * Codes::kBits / 8, scales + begin / group, offsets + begin / group};
  }
  Floats some(int64_t i, int64_t n) const {
    const Codes numbers(splat(scales[i / group]), splat(offsets[i / group]));
    return some_numbers(numbers, codes + i * Codes::kBits / 8, n);
  }
};

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
