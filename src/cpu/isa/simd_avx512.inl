// Vectors of 64 bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "cpu/vector_ops.h"

namespace inkstone::avx512 {
namespace {

constexpr Isa kIsa = Isa::avx512;
constexpr int64_t kLanes = 16;

// Of a tile of a matrix product: 24 sums, 3 vectors and a factor: 28 of 32 registers.
constexpr int kTileRows = 8;
constexpr int kPanelVectors = 3;

using Floats = __m512;

inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

/// The first n numbers (n < kLanes), then zeros.
inline Floats load_first(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void store_first(float* p, Floats v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

/// a * b + c
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

/// The greater number; b where either is NaN.
inline Floats greater(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats lesser(Floats a, Floats b) { return _mm512_min_ps(a, b); }

/// To whole numbers, ties to even.
inline Floats nearest(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/// x * 2^n for whole n, rounded once.
inline Floats times_power_of_two(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }

inline float sum(Floats v) { return _mm512_reduce_add_ps(v); }

inline __m256i load_32_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline Floats load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_32_bytes(p)), 16));
}

inline Floats load_f16(const uint16_t* p) { return _mm512_cvtph_ps(load_32_bytes(p)); }

inline Floats load_bytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

/// Whole numbers in [0, 255].
inline void store_bytes(uint8_t* p, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

/// What codes of 4 bits stand for: scale * code + offset. They are looked up among all sixteen, by 3 instructions
/// instead of 8.
class SmallCodes {
 public:
  static constexpr int kBits = 4;
  SmallCodes(Floats scale, Floats offset)
      : numbers_(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) * scale + offset) {}

  /// kLanes codes, low ones first. A lane finds its number by the lowest 4 bits of what its byte leaves there.
  Floats numbers(const uint8_t* codes) const {
    int64_t words;
    __builtin_memcpy(&words, codes, sizeof words);
    const __m512i byte = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i shift = _mm512_set1_epi64(int64_t{4} << 32);  // of every other lane
    const __m512i pairs = _mm512_shuffle_epi8(_mm512_set1_epi64(words), byte);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(pairs, shift), numbers_);
  }

 private:
  Floats numbers_;
};

inline Floats swap_neighbours(Floats v) { return _mm512_permute_ps(v, 0xb1); }
inline Floats duplicate_even(Floats v) { return _mm512_moveldup_ps(v); }
inline Floats duplicate_odd(Floats v) { return _mm512_movehdup_ps(v); }

/// a * b - c in even lanes, a * b + c in odd ones.
inline Floats multiply_subtract_add(Floats a, Floats b, Floats c) { return _mm512_fmaddsub_ps(a, b, c); }

/// Every other number of a, then of b.
inline Floats even_lanes(Floats a, Floats b) {
  const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(a, index, b);
}
inline Floats odd_lanes(Floats a, Floats b) {
  const __m512i index = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return _mm512_permutex2var_ps(a, index, b);
}

}  // namespace
}  // namespace inkstone::avx512

#include "cpu/isa/scaled_codes.inl"
