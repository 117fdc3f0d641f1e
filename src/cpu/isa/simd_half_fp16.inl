// Products of FP16, two to a lane. The two sums of a lane are FP16 as well: short ones only, which are then f32.
#pragma once
#include "cpu/half_ops.h"
#include "cpu/isa/simd_avx512.inl"

namespace inkstone::avx512 {
namespace {

constexpr HalfKind kKind = HalfKind::fp16;

/// Products to each FP16 sum. Each rounds the sum by up to 2^-11 of itself: 64 cost a result 0.12 %, beside the 0.03 %
/// of rounding what is multiplied. What makes them f32 takes the time of 7 products.
constexpr int64_t kMostPlaces = 64;

/// Greatest exponents of what is multiplied, so that both sums of a lane together stay below FP16's greatest, 2^16.
constexpr bool kScaled = true;
constexpr int kRowExponent = 8;
constexpr int kWeightExponent = 0;

using PairSums = __m512h;

inline __m512i to_halves(Floats low, Floats high) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(low, kNearest)), _mm512_cvtps_ph(high, kNearest), 1);
}

inline PairSums no_sums() { return _mm512_setzero_ph(); }
inline PairSums add_pairs(PairSums sums, __m512i weights, __m512i row) {
  return _mm512_fmadd_ph(_mm512_castsi512_ph(weights), _mm512_castsi512_ph(row), sums);
}

inline Floats to_floats(PairSums sums) {
  const __m512i lanes = _mm512_castph_si512(sums);
  const PairSums both = _mm512_add_ph(sums, _mm512_castsi512_ph(_mm512_ror_epi32(lanes, 16)));
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_castph_si512(both)));
}

}  // namespace
}  // namespace inkstone::avx512
