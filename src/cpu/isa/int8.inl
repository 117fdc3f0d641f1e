// Rounding to 8 bits, and products of what was rounded. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/int8_ops.h"
#include "cpu/isa/transpose.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

constexpr int64_t kMostGroups = kInt8Groups / static_cast<int64_t>(sizeof(Code));
constexpr int64_t kMostDepth = kMostGroups * kInt8Group;

/// Rows of a tile side by side. A distance that is no power of two keeps them out of each other's way in the cache.
struct Strip {
  static constexpr int64_t kStride = kMostDepth + 64 / sizeof(RowCode);
  RowCode codes[kInt8Rows * kStride];
  int32_t first[kMostGroups * kInt8Rows];  // what the sums of a row and a group start with
};

constexpr int64_t round_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
constexpr int64_t lesser_of(int64_t a, int64_t b) { return a < b ? a : b; }

/// The greatest magnitude of a group, NaN if any number is not finite.
inline float greatest_of(const float* x, int64_t n) {
  Floats greatest = splat(0), nan = splat(0);
  for_vectors(n, [&](int64_t i, int64_t width) {
    const Floats v = load_some(x + i, width);
    greatest = greater(greater(v, -v), greatest);
    nan = fma(v, splat(0), nan);  // 0, or NaN
  });
  float lanes[kLanes], most = 0;
  store(lanes, greatest);
  for (int64_t i = 0; i < kLanes; ++i) most = most > lanes[i] ? most : lanes[i];
  return most + sum(nan);
}

/// Calls each(i, width, whole numbers) for the vectors of a group; gives the scale.
template <class Each>
inline float round_group(const float* x, int64_t n, const Each& each) {
  const float greatest = greatest_of(x, n);
  const float inverse = greatest > 0 ? kInt8Greatest / greatest : 0.0f;  // also 0 for NaN
  for_vectors(n, [&](int64_t i, int64_t width) { each(i, width, nearest(load_some(x + i, width) * splat(inverse))); });
  return greatest / kInt8Greatest;
}

void quantize(const float* x, int64_t n, int8_t* codes, float* scales) {
  for (int64_t begin = 0; begin < n; begin += kInt8Group) {
    const int64_t depth = lesser_of(kInt8Group, n - begin);
    *scales++ = round_group(x + begin, depth, [=](int64_t i, int64_t width, Floats whole) {
      int8_t* to = codes + begin + i;
      if (width == kLanes) return store_signed(to, whole);
      int8_t last[kLanes];
      store_signed(last, whole);
      for (int64_t j = 0; j < width; ++j) to[j] = last[j];
    });
  }
}

void prepare_rows(const int8_t* codes, int64_t stride, int64_t rows, int64_t depth, void* to) {
  Strip& strip = *static_cast<Strip*>(to);
  for (int64_t r = 0; r < kInt8Rows; ++r) {
    RowCode* row = strip.codes + r * Strip::kStride;
    const int64_t given = r < rows ? depth : 0;
    widen_row(codes + r * stride, given, row);
    for (int64_t i = given; i < round_to(depth, kStep); ++i) row[i] = 0;
    if constexpr (kOffset != 0) {
      for (int64_t g = 0; g * kInt8Group < depth; ++g) {
        Wholes total = splat_int(0);
        const int64_t end = round_to(lesser_of(depth - g * kInt8Group, kInt8Group), kStep);
        for (int64_t k = 0; k < end; k += kStep)
          total = add_products(total, splat_int(0x01010101), splat_step(row + g * kInt8Group + k));
        strip.first[g * kInt8Rows + r] = -kOffset * first_lane(total);
      }
    }
  }
}

void pack_lanes(const Int8Lanes& l) {
  static_assert(sizeof(Code) * kStep == sizeof(float));
  constexpr int64_t kWords = kInt8Group / kStep;
  alignas(64) Code rows[kLanes * kInt8Group] = {};
  for (int64_t o = 0; o < kLanes; ++o) {
    Code* row = rows + o * kInt8Group;
    const int64_t depth = o < l.outputs ? l.depth : 0;
    l.scales[o] =
        round_group(l.w + o * l.stride, depth, [=](int64_t i, int64_t, Floats whole) { store_codes(row + i, whole); });
    if constexpr (kOffset != 0)
      for (int64_t i = depth; i < round_to(l.depth, kStep); ++i) row[i] = kOffset;
  }
  const int64_t words = round_to(l.depth, kStep) / kStep;
  for (int64_t word = 0; word < words; word += kLanes) {
    Floats square[kLanes];
    for (int64_t o = 0; o < kLanes; ++o) square[o] = load(reinterpret_cast<const float*>(rows) + o * kWords + word);
    transpose(square);
    for (int64_t i = 0; i < lesser_of(kLanes, words - word); ++i)
      store(static_cast<float*>(l.panel) + (word + i) * l.vectors * kLanes, square[i]);
  }
}

/// Sums of a group, whole numbers.
template <int vectors>
struct Products {
  Wholes at[kInt8Rows][vectors];
};

template <int vectors>
inline void multiply_group(Products<vectors>& sums, const RowCode* rows, const Code* panel, int64_t depth) {
  for (int64_t k = 0; k < depth; k += kStep) {
    Wholes w[vectors];
    for (int v = 0; v < vectors; ++v) w[v] = load_step(panel + (k * vectors + v * kStep) * kLanes);
    for (int row = 0; row < kInt8Rows; ++row) {
      const Wholes x = splat_step(rows + row * Strip::kStride + k);
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = add_products(sums.at[row][v], w[v], x);
    }
  }
}

template <int vectors>
void multiply_tile_with(const Int8Tile& t) {
  constexpr int64_t kWidth = vectors * kLanes;
  for (int64_t row = 0; row < t.rows_count; ++row)
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.y + row * t.y_stride + v * kLanes, 1);
  const Strip& strip = *static_cast<const Strip*>(t.rows);
  const Code* panel = static_cast<const Code*>(t.panel);
  alignas(64) float y[kInt8Rows * kWidth] = {};
  for (int64_t g = 0, begin = 0; begin < t.depth; ++g, begin += kInt8Group) {
    const int64_t depth = round_to(lesser_of(kInt8Group, t.depth - begin), kStep);
    Products<vectors> sums;
    for (int row = 0; row < kInt8Rows; ++row)
      for (int v = 0; v < vectors; ++v)
        sums.at[row][v] = splat_int(kOffset == 0 ? 0 : strip.first[g * kInt8Rows + row]);
    multiply_group<vectors>(sums, strip.codes + begin, panel + begin * kWidth, depth);
    for (int row = 0; row < kInt8Rows; ++row) {
      const Floats scale = splat(t.row_scales[(row < t.rows_count ? row : 0) * t.row_scales_stride + g]);
      for (int v = 0; v < vectors; ++v) {
        float* to = y + row * kWidth + v * kLanes;
        store(to, fma(to_floats(sums.at[row][v]), scale * load(t.panel_scales + g * kWidth + v * kLanes), load(to)));
      }
    }
  }
  for (int64_t row = 0; row < t.rows_count; ++row)
    for_vectors(t.columns, [&](int64_t i, int64_t width) {
      const Floats sum = load(y + row * kWidth + i);
      float* to = t.y + row * t.y_stride + i;
      store_some(to, t.accumulate ? load_some(to, width) + sum : sum, width);
    });
}

void multiply_tile(const Int8Tile& tile) {
  if (tile.columns <= kLanes) return multiply_tile_with<1>(tile);
  if (tile.columns <= 2 * kLanes) return multiply_tile_with<2>(tile);
  multiply_tile_with<kInt8Vectors>(tile);
}

/// Enough chains to hide the latency of a product on both ports of every processor so far.
constexpr int kChains = 12;

int32_t multiply_add_chains(int64_t rounds, int8_t start) {
  alignas(64) Code weights[kLanes * kStep];
  RowCode row[kStep];
  for (Code& w : weights) w = static_cast<Code>(start);
  for (RowCode& x : row) x = static_cast<RowCode>(start);
  Wholes chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = splat_int(start + i);
  const Wholes w = load_step(weights), x = splat_step(row);
  for (int64_t r = 0; r < rounds; ++r)
    for (int i = 0; i < kChains; ++i) chains[i] = add_products(chains[i], w, x);
  int32_t last = 0;
  for (int i = 0; i < kChains; ++i) last ^= first_lane(chains[i]);
  return last;
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
