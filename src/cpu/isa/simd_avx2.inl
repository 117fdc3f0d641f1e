// Vectors of 32 bytes, in the namespace that INKSTONE_ISA names.
#pragma once
#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "cpu/vector_ops.h"

namespace inkstone::INKSTONE_ISA {
namespace {

constexpr Isa kIsa = Isa::avx2;
constexpr int64_t kLanes = 8;

// Of a tile of a matrix product: 12 sums, 3 vectors and a factor: all 16 registers.
constexpr int kTileRows = 4;
constexpr int kPanelVectors = 3;

using Floats = __m256;

inline Floats splat(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }

inline __m256i first_lanes(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

/// The first n numbers (n < kLanes), then zeros.
inline Floats load_first(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
inline void store_first(float* p, Floats v, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), v); }

/// a * b + c
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

/// The greater number; b where either is NaN.
inline Floats greater(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats lesser(Floats a, Floats b) { return _mm256_min_ps(a, b); }

/// To whole numbers, ties to even.
inline Floats nearest(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

inline Floats power_of_two(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/// x * 2^n for whole n in [-252, 254], rounded once.
inline Floats times_power_of_two(Floats x, Floats n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  return x * power_of_two(half) * power_of_two(_mm256_sub_epi32(whole, half));
}

inline float sum(Floats v) {
  const __m128 halves = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
  const __m128 quarters = halves + _mm_movehl_ps(halves, halves);
  return _mm_cvtss_f32(quarters + _mm_movehdup_ps(quarters));
}

inline __m128i load_16_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline Floats load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16));
}

inline Floats load_f16(const uint16_t* p) { return _mm256_cvtph_ps(load_16_bytes(p)); }

inline Floats load_bytes(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si64(p))); }

/// Whole numbers in [0, 255].
inline void store_bytes(uint8_t* p, Floats v) {
  const __m256i whole = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storeu_si64(p, _mm_packus_epi16(words, words));
}

/// kLanes codes of 4 bits, low ones first.
inline Floats load_nibbles(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  return _mm256_cvtepi32_ps(_mm256_srlv_epi32(_mm256_set1_epi32(word), shift) & _mm256_set1_epi32(15));
}

inline Floats swap_neighbours(Floats v) { return _mm256_permute_ps(v, 0xb1); }
inline Floats duplicate_even(Floats v) { return _mm256_moveldup_ps(v); }
inline Floats duplicate_odd(Floats v) { return _mm256_movehdup_ps(v); }

/// a * b - c in even lanes, a * b + c in odd ones.
inline Floats multiply_subtract_add(Floats a, Floats b, Floats c) { return _mm256_fmaddsub_ps(a, b, c); }

inline Floats order_quarters(Floats v) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8)); }

/// Every other number of a, then of b.
inline Floats even_lanes(Floats a, Floats b) { return order_quarters(_mm256_shuffle_ps(a, b, 0x88)); }
inline Floats odd_lanes(Floats a, Floats b) { return order_quarters(_mm256_shuffle_ps(a, b, 0xdd)); }

}  // namespace
}  // namespace inkstone::INKSTONE_ISA

#include "cpu/isa/scaled_codes.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

using SmallCodes = ScaledCodes<4, load_nibbles>;

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
