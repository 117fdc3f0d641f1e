// Products of bf16, two to a lane, whose sums are f32.
#pragma once
#include "cpu/half_ops.h"
#include "cpu/isa/simd_avx512.inl"

namespace inkstone::avx512 {
namespace {

constexpr HalfKind kKind = HalfKind::bf16;
constexpr int64_t kMostPlaces = int64_t{1} << 40;  // as many as there are

/// bf16 has the exponents of f32.
constexpr bool kScaled = false;
constexpr int kRowExponent = 0;
constexpr int kWeightExponent = 0;

using PairSums = Floats;

inline __m512i to_halves(Floats low, Floats high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

inline PairSums no_sums() { return splat(0); }

/// g++ 12 copies every sum before and after such an intrinsic.
inline PairSums add_pairs(PairSums sums, __m512i weights, __m512i row) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(row));
  return sums;
}

inline Floats to_floats(PairSums sums) { return sums; }

}  // namespace
}  // namespace inkstone::avx512
