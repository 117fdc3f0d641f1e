// Rounding to 16 bits, and products of what was rounded. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/half_ops.h"
#include "cpu/isa/functions.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// A power of two, and its inverse.
struct Scale {
  float factor = 1;
  float inverse = 1;
};

inline float power_of_two(int32_t n) {
  const int32_t bits = (n + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power;
}

/// Bits of the greatest magnitude; NaN counts as greatest.
inline int32_t greatest_bits(const float* x, int64_t n) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most = _mm512_setzero_si512();
  for_vectors(n, [&](int64_t i, int64_t width) {
    most = _mm512_max_epi32(most, _mm512_castps_si512(load_some(x + i, width)) & magnitude);
  });
  return _mm512_reduce_max_epi32(most);
}

/// Such that no number times the factor is above 2^exponent. Rows of nothing or with NaN or infinity stay as they are.
inline Scale scale_of(const float* x, int64_t n, int exponent) {
  constexpr int32_t kNone = 0, kNotFinite = 255, kMost = 126;  // of f32's exponents
  if constexpr (!kScaled) return {};
  const int32_t above = greatest_bits(x, n) >> 23;
  if (above == kNone || above == kNotFinite) return {};
  const int32_t wanted = exponent - (above - 126);
  const int32_t power = wanted > kMost ? kMost : wanted < -kMost ? -kMost : wanted;
  return {power_of_two(power), power_of_two(-power)};
}

/// n numbers and zeros behind them.
inline Floats load_up_to(const float* p, int64_t n) {
  return n >= kLanes ? load(p) : n > 0 ? load_first(p, n) : splat(0);
}

/// The first of n numbers as a vector of places.
inline Floats places_of(const float* x, int64_t n, Floats factor) {
  Floats low = load_up_to(x, n), high = load_up_to(x + kLanes, n - kLanes);
  if constexpr (kScaled) low = low * factor, high = high * factor;
  return _mm512_castsi512_ps(to_halves(low, high));
}

constexpr int64_t kNumbers = 2 * kLanes;  // of a vector

/// Places of a vector that n numbers fill.
inline int64_t filled_places(int64_t n) { return n >= kNumbers ? kLanes : (n + 1) / 2; }

template <int exponent>
void round(const float* x, int64_t n, float* places, float* scale) {
  const Scale s = scale_of(x, n, exponent);
  const Floats factor = splat(s.factor);
  *scale = s.inverse;
  for (int64_t i = 0; i < n; i += kNumbers)
    store_some(places + i / 2, places_of(x + i, n - i, factor), filled_places(n - i));
}

/// Sums of as many products as their kind may hold.
template <int vectors>
struct HalfSums {
  PairSums at[kTileRows][vectors];
};

inline __m512i splat_place(const float* p) {
  int32_t place;
  __builtin_memcpy(&place, p, sizeof place);
  return _mm512_set1_epi32(place);
}

/// How far ahead a panel is fetched; what the hardware does by itself stops at the end of a page.
constexpr int64_t kPrefetchPlaces = 16;

// Loops over a tile's sums say that they are to be unrolled, as in int8.inl.
template <int vectors>
[[gnu::always_inline]] inline void multiply_places(HalfSums<vectors>& sums, const float* x, int64_t stride,
                                                   const float* panel, int64_t places) {
  for (int64_t k = 0; k < places; ++k) {
    __m512i w[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const float* from = panel + (k * vectors + v) * kLanes;
      __builtin_prefetch(from + kPrefetchPlaces * vectors * kLanes);
      w[v] = _mm512_loadu_si512(from);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kTileRows; ++row) {
      const __m512i left = splat_place(x + row * stride + k);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = add_pairs(sums.at[row][v], w[v], left);
    }
  }
}

/// Adds or stores the part of a tile that is in the result.
template <int vectors>
inline void write_halves(const float* sums, const ProductTile& t) {
  for (int64_t row = 0; row < t.rows; ++row) {
    const Floats row_scale = kScaled ? splat(t.row_scales[row]) : splat(1);
    for_vectors(t.columns, [&](int64_t i, int64_t width) {
      Floats sum = load(sums + row * vectors * kLanes + i);
      if constexpr (kScaled) sum = sum * (row_scale * load(t.panel_scales + i));
      float* y = t.y + row * t.y_stride + i;
      store_some(y, t.accumulate ? load_some(y, width) + sum : sum, width);
    });
  }
}

template <int vectors>
void multiply_tile_with(const ProductTile& t) {
  // The result is added last: by then it has come from wherever it was.
  for (int64_t row = 0; row < t.rows; ++row)
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.y + row * t.y_stride + v * kLanes, 1);
  alignas(64) float y[kTileRows * vectors * kLanes] = {};
  for (int64_t begin = 0; begin < t.depth; begin += kMostPlaces) {
    HalfSums<vectors> sums;
#pragma GCC unroll 8
    for (int row = 0; row < kTileRows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = no_sums();
    const int64_t places = t.depth - begin < kMostPlaces ? t.depth - begin : kMostPlaces;
    multiply_places<vectors>(sums, t.x + begin, t.x_stride, t.panel + begin * vectors * kLanes, places);
    float* to = forget(y);
#pragma GCC unroll 8
    for (int row = 0; row < kTileRows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v, to += kLanes) store(to, load(to) + to_floats(sums.at[row][v]));
  }
  write_halves<vectors>(y, t);
}

void multiply_tile(const ProductTile& tile) {
  if (tile.columns <= kLanes) return multiply_tile_with<1>(tile);
  if (tile.columns <= 2 * kLanes) return multiply_tile_with<2>(tile);
  multiply_tile_with<kPanelVectors>(tile);
}

/// Enough chains to hide the latency of a product on both ports of every processor so far.
constexpr int kChains = 12;

float multiply_add_chains(int64_t rounds, float start) {
  PairSums chains[kChains];
  const __m512i w = to_halves(splat(0.001f), splat(0.001f)), x = to_halves(splat(start), splat(start));
  for (int i = 0; i < kChains; ++i) chains[i] = no_sums();
  for (int64_t r = 0; r < rounds; ++r)
    for (int i = 0; i < kChains; ++i) chains[i] = add_pairs(chains[i], w, x);
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sum(to_floats(chains[i]));
  return total;
}

constexpr HalfOps kHalfOps = {
    .kind = kKind,
    .panel = {.inputs = 2, .round_weights = round<kWeightExponent>, .multiply_tile = multiply_tile},
    .round_row = round<kRowExponent>,
    .multiply_add_chains = multiply_add_chains,
    .multiply_adds_per_round = kChains * kNumbers,
};

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
