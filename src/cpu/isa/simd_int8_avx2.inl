// Two 16-bit products to a lane: 8-bit ones would overflow, as the instruction adds pairs of them in 16 bits.
#pragma once
#include "cpu/isa/simd_avx2.inl"

namespace inkstone::avx2 {
namespace {

using Code = int16_t;  // of a weight
using RowCode = int16_t;
using Wholes = __m256i;
constexpr const char* kInt8Name = "avx2";
constexpr int64_t kStep = 2;
constexpr int32_t kOffset = 0;

// 12 sums, 2 vectors of weights, a row's numbers and a product: all 16 registers.
constexpr int kInt8Rows = 6;
constexpr int kInt8Vectors = 2;

inline Wholes splat_int(int32_t x) { return _mm256_set1_epi32(x); }
inline Wholes load_step(const Code* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

inline Wholes splat_step(const RowCode* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}

inline Wholes add_products(Wholes sum, Wholes weights, Wholes row) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(weights, row));
}
/// The number of greater magnitude without its sign; NaN counts as greatest.
inline Floats greater_magnitude(Floats a, Floats b) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a) & mask, _mm256_castps_si256(b) & mask));
}
inline Floats to_floats(Wholes x) { return _mm256_cvtepi32_ps(x); }
inline int32_t first_lane(Wholes x) { return _mm256_cvtsi256_si32(x); }

inline __m128i words_of(Floats whole) {
  const __m256i ints = _mm256_cvtps_epi32(whole);
  return _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
}
inline void store_codes(Code* p, Floats whole) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words_of(whole)); }
inline void store_signed(int8_t* p, Floats whole) {
  const __m128i words = words_of(whole);
  _mm_storeu_si64(p, _mm_packs_epi16(words, words));
}

inline void widen_row(const int8_t* codes, int64_t n, RowCode* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = codes[i];
}

}  // namespace
}  // namespace inkstone::avx2
