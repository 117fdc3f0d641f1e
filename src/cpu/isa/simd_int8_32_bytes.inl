// What products of 8-bit numbers need of vectors of 32 bytes, whatever multiplies them.
#pragma once
#include "cpu/isa/simd_avx2.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

using Wholes = __m256i;

inline Wholes splat_int(int32_t x) { return _mm256_set1_epi32(x); }
inline Wholes load_wholes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

/// The 4 bytes at p in every lane.
inline Wholes splat_4_bytes(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}

/// The number of greater magnitude without its sign; NaN counts as greatest.
inline Floats greater_magnitude(Floats a, Floats b) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a) & mask, _mm256_castps_si256(b) & mask));
}
/// The same, where a has no sign.
inline Floats greater_of(Floats a, Floats b) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b) & mask));
}
inline Floats to_floats(Wholes x) { return _mm256_cvtepi32_ps(x); }
inline int32_t first_lane(Wholes x) { return _mm256_cvtsi256_si32(x); }

/// Whole numbers that fit 16 bits.
inline __m128i words_of(Floats whole) {
  const __m256i ints = _mm256_cvtps_epi32(whole);
  return _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
}
inline void store_signed(int8_t* p, Floats whole) {
  const __m128i words = words_of(whole);
  _mm_storeu_si64(p, _mm_packs_epi16(words, words));
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
