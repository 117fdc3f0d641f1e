// Vectors of a processor about which nothing is known: 16 bytes, as every x86-64 and ARM64 has them; the compiler
// finds the instructions.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/vector_ops.h"

namespace inkstone::scalar {
namespace {

constexpr Isa kIsa = Isa::scalar;
constexpr int64_t kLanes = 4;

// Of a tile of a matrix product: 16 registers, one of them for products.
constexpr int kTileRows = 4;
constexpr int kPanelVectors = 2;

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

inline Floats splat(float x) { return Floats{x, x, x, x}; }

inline Floats load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }

/// The first n numbers (n < kLanes), then zeros.
inline Floats load_first(const float* p, int64_t n) {
  Floats v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

inline void store_first(float* p, Floats v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

/// a * b + c
inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }

/// The greater number; b where either is NaN.
inline Floats greater(Floats a, Floats b) { return a > b ? a : b; }
inline Floats lesser(Floats a, Floats b) { return a < b ? a : b; }

/// To whole numbers, ties to even; |x| < 2^22.
inline Floats nearest(Floats x) {
  const Floats magic = splat(0x1.8p23f);  // leaves no bit for a fraction
  return (x + magic) - magic;
}

inline Floats power_of_two(Ints n) { return reinterpret_cast<Floats>((n + 127) << 23); }

/// x * 2^n for whole n in [-252, 254], rounded once.
inline Floats times_power_of_two(Floats x, Floats n) {
  const Ints whole = __builtin_convertvector(n, Ints);
  const Ints half = whole >> 1;
  return x * power_of_two(half) * power_of_two(whole - half);
}

inline float sum(Floats v) { return (v[0] + v[2]) + (v[1] + v[3]); }

inline Floats load_bf16(const uint16_t* p) {
  Ints v = {};
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<int32_t>(static_cast<uint32_t>(p[i]) << 16);
  return reinterpret_cast<Floats>(v);
}

inline Floats load_f16(const uint16_t* p) {
  Ints bits = {};
  for (int i = 0; i < kLanes; ++i) bits[i] = p[i];
  const Ints magnitude = bits & 0x7fff;
  const Ints sign = (bits & 0x8000) << 16;
  // As a single's exponent and fraction, the number is 2^112 times too small; multiplying also mends subnormals.
  const Floats finite = reinterpret_cast<Floats>(magnitude << 13) * splat(0x1p112f);
  const Ints special = (magnitude << 13) | 0x7f800000;  // infinities and NaN
  const Ints value = magnitude >= 0x7c00 ? special : reinterpret_cast<Ints>(finite);
  return reinterpret_cast<Floats>(value | sign);
}

inline Floats load_bytes(const uint8_t* p) {
  return Floats{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])};
}

/// Whole numbers in [0, 255].
inline void store_bytes(uint8_t* p, Floats v) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(v[i]);
}

/// kLanes codes of 4 bits, low ones first.
inline Floats load_nibbles(const uint8_t* p) {
  const Ints codes = {p[0] & 15, p[0] >> 4, p[1] & 15, p[1] >> 4};
  return __builtin_convertvector(codes, Floats);
}

inline Floats swap_neighbours(Floats v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2); }
inline Floats duplicate_even(Floats v) { return __builtin_shufflevector(v, v, 0, 0, 2, 2); }
inline Floats duplicate_odd(Floats v) { return __builtin_shufflevector(v, v, 1, 1, 3, 3); }

/// a * b - c in even lanes, a * b + c in odd ones.
inline Floats multiply_subtract_add(Floats a, Floats b, Floats c) { return a * b + c * Floats{-1, 1, -1, 1}; }

/// Every other number of a, then of b.
inline Floats even_lanes(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
inline Floats odd_lanes(Floats a, Floats b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }

}  // namespace
}  // namespace inkstone::scalar

#include "cpu/isa/scaled_codes.inl"

namespace inkstone::scalar {
namespace {

using SmallCodes = ScaledCodes<4, load_nibbles>;

}  // namespace
}  // namespace inkstone::scalar
