// Whole numbers in f32, which every processor multiplies well: sums of a group stay below 2^24 and so are exact.
#pragma once
#include "cpu/isa/simd_scalar.inl"

namespace inkstone::scalar {
namespace {

using Code = float;  // of a weight
using RowCode = float;
using Wholes = Floats;
constexpr const char* kInt8Name = "scalar";
constexpr int64_t kStep = 1;
constexpr int32_t kOffset = 0;
constexpr int kInt8Rows = 4;
constexpr int kInt8Vectors = 2;

inline Wholes splat_int(int32_t x) { return splat(static_cast<float>(x)); }
inline Wholes load_step(const Code* p) { return load(p); }
inline Wholes splat_step(const RowCode* p) { return splat(*p); }
/// The number of greater magnitude without its sign; NaN counts as greatest.
inline Floats greater_magnitude(Floats a, Floats b) {
  const Ints x = reinterpret_cast<Ints>(a) & 0x7fffffff, y = reinterpret_cast<Ints>(b) & 0x7fffffff;
  return reinterpret_cast<Floats>(x > y ? x : y);
}
/// The same, where a has no sign.
inline Floats greater_of(Floats a, Floats b) { return greater_magnitude(a, b); }
inline Wholes add_products(Wholes sum, Wholes weights, Wholes row) { return fma(weights, row, sum); }
inline Floats to_floats(Wholes x) { return x; }
inline int32_t first_lane(Wholes x) { return static_cast<int32_t>(x[0]); }

constexpr int kCodeVectors = 1;

/// Codes of numbers, rounded to nearest.
inline void store_codes(Code* p, const Floats (&x)[kCodeVectors]) { store(p, nearest(x[0])); }
inline void store_signed(int8_t* p, Floats whole) {
  for (int i = 0; i < kLanes; ++i) p[i] = whole[i] == whole[i] ? static_cast<int8_t>(whole[i]) : int8_t{0};
}

inline void widen_row(const int8_t* codes, int64_t n, RowCode* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = codes[i];
}

class SmallBytes;  // weights of files lie in another order

}  // namespace
}  // namespace inkstone::scalar
