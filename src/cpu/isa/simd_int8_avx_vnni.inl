// Four 8-bit products to a lane, as in simd_int8_vnni.inl, for processors that have VNNI but no AVX-512.
#pragma once
#include "cpu/isa/simd_int8_32_bytes.inl"

namespace inkstone::avx_vnni {
namespace {

using Code = uint8_t;    // of a weight
using RowCode = int8_t;  // of an activation
constexpr const char* kInt8Name = "avx_vnni";
constexpr int64_t kStep = 4;
constexpr int32_t kOffset = 128;

// 12 sums, 2 vectors of weights and a row's numbers: 15 of 16 registers.
constexpr int kInt8Rows = 6;
constexpr int kInt8Vectors = 2;

inline Wholes load_step(const Code* p) { return load_wholes(p); }
inline Wholes splat_step(const RowCode* p) { return splat_4_bytes(p); }

/// {vex}: assemblers prefer the form of AVX-512.
inline Wholes add_products(Wholes sum, Wholes weights, Wholes row) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(row));
  return sum;
}

constexpr int kCodeVectors = 1;

/// Codes of numbers, rounded to nearest.
inline void store_codes(Code* p, const Floats (&x)[kCodeVectors]) { store_bytes(p, nearest(x[0]) + splat(kOffset)); }

/// To nearest, ties to even.
inline Wholes to_wholes(Floats x) { return _mm256_cvtps_epi32(x); }

/// A step of codes in [0, 255], number i of each lane from codes[i].
inline Wholes join_codes(const Wholes (&codes)[kStep]) {
  return codes[0] | _mm256_slli_epi32(codes[1], 8) | _mm256_slli_epi32(codes[2], 16) | _mm256_slli_epi32(codes[3], 24);
}

/// The first n codes of each lane; zeros for the others.
inline Wholes first_codes(Wholes step, int64_t n) {
  return n >= kStep ? step : _mm256_and_si256(step, _mm256_set1_epi32((1 << 8 * n) - 1));
}
inline void store_step(Code* p, Wholes step) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), step); }

/// As in simd_int8_vnni.inl.
class SmallBytes {
 public:
  SmallBytes(const uint8_t* steps, const uint8_t* offsets)
      : steps_(in_every_byte(steps) & _mm256_set1_epi16(0xff)), offsets_(in_every_byte(offsets)) {}

  static Wholes load(const uint8_t* pairs) { return load_step(pairs); }
  Wholes of_lower(Wholes pairs) const { return bytes_of(pairs); }
  Wholes of_upper(Wholes pairs) const { return bytes_of(_mm256_srli_epi16(pairs, 4)); }

 private:
  static Wholes in_every_byte(const uint8_t* p) {
    return _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_loadu_si64(p)), _mm256_set1_epi32(0x01010101));
  }
  Wholes bytes_of(Wholes codes) const {
    return _mm256_add_epi8(_mm256_mullo_epi16(codes & _mm256_set1_epi8(15), steps_), offsets_);
  }

  Wholes steps_, offsets_;
};

/// Copies n codes.
inline void widen_row(const int8_t* codes, int64_t n, RowCode* to) {
  __builtin_memcpy(to, codes, static_cast<size_t>(n));
}

}  // namespace
}  // namespace inkstone::avx_vnni
