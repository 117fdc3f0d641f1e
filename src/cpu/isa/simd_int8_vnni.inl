// Four 8-bit products to a lane. The weights carry an offset of 128, since the instruction takes one factor unsigned;
// sums start at what that adds.
#pragma once
#include "cpu/isa/simd_avx512.inl"

namespace inkstone::avx512 {
namespace {

using Code = uint8_t;    // of a weight
using RowCode = int8_t;  // of an activation
using Wholes = __m512i;
constexpr const char* kInt8Name = "avx512_vnni";
constexpr int64_t kStep = 4;
constexpr int32_t kOffset = 128;
constexpr int kInt8Rows = 8;
constexpr int kInt8Vectors = 3;

inline Wholes splat_int(int32_t x) { return _mm512_set1_epi32(x); }
inline Wholes load_step(const Code* p) { return _mm512_loadu_si512(p); }

inline Wholes splat_step(const RowCode* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}

/// g++ 12 copies every sum before and after the intrinsic, which takes half of the speed.
inline Wholes add_products(Wholes sum, Wholes weights, Wholes row) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(row));
  return sum;
}

/// To nearest, ties to even.
inline Wholes to_wholes(Floats x) { return _mm512_cvtps_epi32(x); }

/// A step of codes in [0, 255], number i of each lane from codes[i].
inline Wholes join_codes(const Wholes (&codes)[kStep]) {
  return _mm512_or_si512(_mm512_or_si512(codes[0], _mm512_slli_epi32(codes[1], 8)),
                         _mm512_or_si512(_mm512_slli_epi32(codes[2], 16), _mm512_slli_epi32(codes[3], 24)));
}

/// The first n codes of each lane; zeros for the others.
inline Wholes first_codes(Wholes step, int64_t n) {
  return n >= kStep ? step : _mm512_and_si512(step, _mm512_set1_epi32((1 << 8 * n) - 1));
}
inline void store_step(Code* p, Wholes step) { _mm512_storeu_si512(p, step); }

/// The number of greater magnitude without its sign; NaN counts as greatest.
inline Floats greater_magnitude(Floats a, Floats b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a) & mask, _mm512_castps_si512(b) & mask));
}
/// The same, where a has no sign.
inline Floats greater_of(Floats a, Floats b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b) & mask));
}
inline Floats to_floats(Wholes x) { return _mm512_cvtepi32_ps(x); }
inline int32_t first_lane(Wholes x) { return _mm512_cvtsi512_si32(x); }

inline void store_signed(int8_t* p, Floats whole) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(whole)));
}
constexpr int kCodeVectors = 4;

/// Codes of numbers, rounded to nearest. Packing leaves four numbers of each vector side by side.
inline void store_codes(Code* p, const Floats (&x)[kCodeVectors]) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(x[0]), _mm512_cvtps_epi32(x[1]));
  const __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(x[2]), _mm512_cvtps_epi32(x[3]));
  const __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
  _mm512_storeu_si512(p, codes ^ _mm512_set1_epi8(static_cast<char>(kOffset)));
}

/// Makes bytes of codes of 4 bits, step * code + offset, an output to a lane. A product of 16 bits makes two of them.
class SmallBytes {
 public:
  SmallBytes(const uint8_t* steps, const uint8_t* offsets)
      : steps_(in_every_byte(steps) & _mm512_set1_epi16(0xff)), offsets_(in_every_byte(offsets)) {}

  static Wholes load(const uint8_t* pairs) { return load_step(pairs); }
  Wholes of_lower(Wholes pairs) const { return bytes_of(pairs); }
  Wholes of_upper(Wholes pairs) const { return bytes_of(_mm512_srli_epi16(pairs, 4)); }

 private:
  static Wholes in_every_byte(const uint8_t* p) {
    return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
                              _mm512_set1_epi32(0x01010101));
  }
  Wholes bytes_of(Wholes codes) const {
    return _mm512_add_epi8(_mm512_mullo_epi16(codes & _mm512_set1_epi8(15), steps_), offsets_);
  }

  Wholes steps_, offsets_;
};

/// Copies n codes.
inline void widen_row(const int8_t* codes, int64_t n, RowCode* to) {
  __builtin_memcpy(to, codes, static_cast<size_t>(n));
}

}  // namespace
}  // namespace inkstone::avx512
