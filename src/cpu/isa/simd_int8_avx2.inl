// Two 16-bit products to a lane: 8-bit ones would overflow, as the instruction adds pairs of them in 16 bits.
#pragma once
#include "cpu/isa/simd_int8_32_bytes.inl"

namespace inkstone::avx2 {
namespace {

using Code = int16_t;  // of a weight
using RowCode = int16_t;
constexpr const char* kInt8Name = "avx2";
constexpr int64_t kStep = 2;
constexpr int32_t kOffset = 0;

// 12 sums, 2 vectors of weights, a row's numbers and a product: all 16 registers.
constexpr int kInt8Rows = 6;
constexpr int kInt8Vectors = 2;

inline Wholes load_step(const Code* p) { return load_wholes(p); }
inline Wholes splat_step(const RowCode* p) { return splat_4_bytes(p); }

/// With intrinsics g++ 12 makes all products of a step before it adds them, and keeps most sums in memory meanwhile.
inline Wholes add_products(Wholes sum, Wholes weights, Wholes row) {
  Wholes products;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(weights), "x"(row));
  return sum;
}

constexpr int kCodeVectors = 1;

/// Codes of numbers, rounded to nearest.
inline void store_codes(Code* p, const Floats (&x)[kCodeVectors]) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words_of(x[0]));
}

inline void widen_row(const int8_t* codes, int64_t n, RowCode* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = codes[i];
}

class SmallBytes;  // weights of files lie in another order

}  // namespace
}  // namespace inkstone::avx2
