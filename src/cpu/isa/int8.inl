// Rounding to 8 bits, and products of what was rounded. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/cache_line.h"
#include "cpu/isa/mix.inl"
#include "cpu/isa/transpose.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

constexpr int64_t kMostGroups = kInt8Groups / static_cast<int64_t>(sizeof(Code));
static_assert(kLanes <= kInt8MostLanes);
constexpr int64_t kMostDepth = kMostGroups * kInt8Group;

constexpr bool kReadsMixed = sizeof(Code) == 1 && kStep == kMixedStep && kOffset == kMixedOffset &&
                             kMostDepth == kMixedPanel && kMixedStrip % (kInt8Vectors * kLanes) == 0;

/// Else the distance from step to step is known when this is compiled, which is worth 1 % of the time.
constexpr bool kReadsPartsOfStrips = kReadsMixed && kInt8Vectors * kLanes < kMixedStrip;

/// Rows of a tile side by side. A distance that is no power of two keeps them out of each other's way in the cache.
struct Strip {
  static constexpr int64_t kStride = kMostDepth + 64 / sizeof(RowCode);
  RowCode codes[kInt8Rows * kStride];
};

constexpr int64_t round_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
constexpr int64_t lesser_of(int64_t a, int64_t b) { return a < b ? a : b; }

/// In all lanes.
inline Floats greatest_lane(Floats v) {
  for (int64_t n = 1; n < kLanes; n *= 2) v = greater_magnitude(even_lanes(v, v), odd_lanes(v, v));
  return v;
}

/// What turns numbers of at most this magnitude into codes. A least divisor keeps groups of zeros from 0 / 0; below it
/// numbers become zeros.
inline Floats inverse_scale(Floats greatest) {
  return splat(kInt8Greatest) / greater(splat(kMixedLeastDivisor), greatest);
}

/// Up to kLanes groups of numbers that are rounded together: a lane for each.
struct Groups {
  const float* x;
  int64_t stride;  // from group to group
  int64_t count;
  int64_t depth;

  Floats numbers(int64_t group, int64_t i, int64_t width) const { return load_some(x + group * stride + i, width); }
};

/// Lane i: the sum of the lanes of rows[i], where add(a, b) gives the sum of two numbers.
template <class Add>
inline Floats sums_of_rows(Floats (&rows)[kLanes], const Add& add) {
  transpose(rows);
  for (int64_t n = kLanes / 2; n > 0; n /= 2)
    for (int64_t i = 0; i < n; ++i) rows[i] = add(rows[i], rows[i + n]);
  return rows[0];
}

/// Lane i: the greatest magnitude of group i.
inline Floats greatest_of(const Groups& g) {
  Floats rows[kLanes];
  for (int64_t group = 0; group < kLanes; ++group) {
    Floats most = splat(0);
    if (group < g.count)
      for_vectors(g.depth, [&](int64_t i, int64_t width) { most = greater_of(most, g.numbers(group, i, width)); });
    rows[group] = most;
  }
  return sums_of_rows(rows, [](Floats a, Floats b) { return greater_magnitude(a, b); });
}

/// 0 for NaN.
inline int32_t whole_of(float x) { return x == x ? static_cast<int32_t>(x) : 0; }

/// Whole numbers as the codes of a row of `depth`, from number i on.
inline void write_codes(int8_t* codes, int64_t i, int64_t depth, Floats whole) {
  const int64_t width = lesser_of(kLanes, depth - i);
  if (width == kLanes) return store_signed(codes + i, whole);
  int8_t last[kLanes];
  store_signed(last, whole);
  for (int64_t j = 0; j < width; ++j) codes[i + j] = last[j];
}

void quantize(const Int8Source& source, int64_t n, const Int8Target& to) {
  alignas(64) float room[kInt8Group];
  for (int64_t begin = 0, group = 0; begin < n; begin += kInt8Group, ++group) {
    const int64_t depth = lesser_of(kInt8Group, n - begin);
    const float* factors = source.factors == nullptr ? nullptr : source.factors + begin;
    const Floats greatest = greatest_lane(mix_group(PlainNumbers(source.x + begin), factors, depth, room));
    const Floats factor = inverse_scale(greatest);
    Floats total = splat(0);
    for_vectors(depth, [&](int64_t i, int64_t width) {
      const Floats whole = nearest(load_some(room + i, width) * factor);
      total = total + whole;
      write_codes(to.codes + begin, i, depth, whole);
    });
    store_first(to.scales + group, greatest / splat(kInt8Greatest), 1);
    to.sums[group] = whole_of(sum(total));
  }
}

void quantize_pixel_rows(const Groups& g, const Int8Pixels& p, int64_t first) {
  const Floats greatest = greatest_of(g);
  float inverse[kLanes], all[kLanes];
  store(inverse, inverse_scale(greatest));
  store_some(p.scales + first, greatest / splat(kInt8Greatest), g.count);
  Floats rows[kLanes];
  for (Floats& row : rows) row = splat(0);
  for (int64_t row = 0; row < g.count; ++row) {
    const Floats factor = splat(inverse[row]);
    for_vectors(g.depth, [&](int64_t i, int64_t width) {
      const Floats whole = nearest(g.numbers(row, i, width) * factor);
      rows[row] = rows[row] + whole;
      write_codes(p.codes + (first + row) * p.codes_stride, i, g.depth, whole);
    });
  }
  store(all, sums_of_rows(rows, [](Floats a, Floats b) { return a + b; }));
  for (int64_t row = 0; row < g.count; ++row) p.sums[first + row] = whole_of(all[row]);
}

void quantize_pixels(const Int8Pixels& p) {
  for (int64_t row = 0; row < p.rows; row += kLanes)
    quantize_pixel_rows({p.x + row * p.x_stride, p.x_stride, lesser_of(kLanes, p.rows - row), p.depth}, p, row);
}

void prepare_rows(const int8_t* codes, int64_t stride, int64_t rows, int64_t depth, void* to) {
  Strip& strip = *static_cast<Strip*>(to);
  for (int64_t r = 0; r < kInt8Rows; ++r) {
    RowCode* row = strip.codes + r * Strip::kStride;
    const int64_t given = r < rows ? depth : 0;
    widen_row(codes + r * stride, given, row);
    for (int64_t i = given; i < round_to(depth, kStep); ++i) row[i] = 0;
  }
}

/// Lane i: the greatest magnitude of output i.
inline Floats greatest_of(const Int8Lanes& l) {
  if (l.most == nullptr) return greatest_of(Groups{l.w, l.stride, l.outputs, l.depth});
  Floats rows[kLanes];
  for (int64_t o = 0; o < kLanes; ++o) rows[o] = o < l.outputs ? load(l.most + o * kLanes) : splat(0);
  return sums_of_rows(rows, [](Floats a, Floats b) { return greater_magnitude(a, b); });
}

/// Codes of an output's numbers; zeros follow them up to kCodeVectors whole vectors.
inline void round_weights(const float* w, int64_t depth, Floats factor, Code* codes) {
  constexpr int64_t kAtOnce = kCodeVectors * kLanes;
  Floats x[kCodeVectors];
  int64_t i = 0;
  for (; i + kAtOnce <= depth; i += kAtOnce) {
#pragma GCC unroll 4
    for (int v = 0; v < kCodeVectors; ++v) x[v] = load(w + i + v * kLanes) * factor;
    store_codes(codes + i, x);
  }
  if (i == depth) return;
  for (Floats& last : x) last = splat(0);
  for_vectors(depth - i, [&](int64_t k, int64_t width) { x[k / kLanes] = load_some(w + i + k, width) * factor; });
  store_codes(codes + i, x);
}

void pack_lanes(const Int8Lanes& l) {
  static_assert(sizeof(Code) * kStep == sizeof(float));
  static_assert(kInt8MostGroup % (kCodeVectors * kLanes) == 0);
  constexpr int64_t kWords = kInt8MostGroup / kStep;
  alignas(64) Code rows[kLanes * kInt8MostGroup];
  if (l.outputs < kLanes || l.depth != kInt8Group)
    for (Code& code : rows) code = kOffset;
  const Floats greatest = greatest_of(l);
  float inverse[kLanes];
  store(inverse, inverse_scale(greatest));
  store(l.scales, greatest / splat(kInt8Greatest));
  for (int64_t o = 0; o < l.outputs; ++o)
    round_weights(l.w + o * l.stride, l.depth, splat(inverse[o]), rows + o * kInt8MostGroup);
  const int64_t words = round_to(l.depth, kStep) / kStep;
  for (int64_t word = 0; word < words; word += kLanes) {
    Floats square[kLanes];
    for (int64_t o = 0; o < kLanes; ++o) square[o] = load(reinterpret_cast<const float*>(rows) + o * kWords + word);
    transpose(square);
    for (int64_t i = 0; i < lesser_of(kLanes, words - word); ++i)
      store(static_cast<float*>(l.panel) + (word + i) * l.vectors * kLanes, square[i]);
  }
}

/// How far ahead codes of 4 bits are fetched: they come from main memory, where they may be mapped from a file.
constexpr int64_t kPrefetchBytes = 2048;

/// Vectors of one small group.
template <class Bytes>
inline void unpack_small_group(const Int8SmallCodes& c, const uint8_t* steps, int64_t begin, int64_t end) {
  for (int64_t v = 0; v < c.vectors; ++v) {
    const Bytes bytes(steps + v * kLanes, steps + c.columns + v * kLanes);
    for (int64_t i = begin; i < end; i += kMixedPair) {
      const uint8_t* from = c.codes + (i / kMixedPair * c.columns + v * kLanes) * kMixedStep;
      __builtin_prefetch(from + kPrefetchBytes);
      const auto pairs = Bytes::load(from);
      Code* to = static_cast<Code*>(c.panel) + (i * c.vectors + v * kStep) * kLanes;
      store_step(to, bytes.of_lower(pairs));
      store_step(to + c.vectors * kLanes * kStep, bytes.of_upper(pairs));
    }
  }
}

/// `Bytes`: what makes bytes of a small group's codes of 4 bits.
template <class Bytes>
void unpack(const Int8SmallCodes& c) {
  const uint8_t* steps = c.steps;
  for (int64_t begin = 0; begin < c.depth; begin += kMixedSmallGroup, steps += 2 * c.columns)
    unpack_small_group<Bytes>(c, steps, begin, lesser_of(begin + kMixedSmallGroup, c.depth));
}

template <class Bytes>
constexpr auto unpacker() -> void (*)(const Int8SmallCodes&) {
  if constexpr (kReadsMixed)
    return unpack<Bytes>;
  else
    return nullptr;
}

// Loops over a tile's sums say that they are to be unrolled: g++ 12 does so by itself too late to keep the sums in
// registers, and writes and reads them again at both ends of a group, for a tenth of the kernel's time.

/// Sums of a group, whole numbers.
template <int vectors>
struct Products {
  Wholes at[kInt8Rows][vectors];
};

/// How far ahead a panel is fetched; what the hardware does by itself stops at the end of a page.
constexpr int64_t kPrefetchSteps = 16;

/// Called from more than one place, clang 14 would keep it apart and the sums in memory: a third of the speed.
template <int vectors>
[[gnu::always_inline]] inline void multiply_group(Products<vectors>& sums, const RowCode* rows, int64_t stride,
                                                  const Code* panel, int64_t panel_step, int64_t depth) {
  for (int64_t k = 0; k < depth; k += kStep, panel += panel_step) {
    Wholes w[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const Code* from = panel + v * kStep * kLanes;
      __builtin_prefetch(from + kPrefetchSteps * panel_step);
      w[v] = load_step(from);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row) {
      const Wholes x = splat_step(rows + row * stride + k);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = add_products(sums.at[row][v], w[v], x);
    }
  }
}

/// Inputs [begin, end) of rows that are read next.
inline void fetch(const Int8Next& next, int64_t begin, int64_t end) {
  constexpr int kSecondCache = 2;  // for __builtin_prefetch
  for (int64_t row = 0; row < next.rows; ++row)
    for (int64_t i = begin; i < end; i += kLineBytes)
      __builtin_prefetch(next.codes + row * next.stride + i, 0, kSecondCache);
}

/// What a group's sums begin at, and the scales of its rows. At places that are known when this is compiled: working
/// out addresses of either held up the end of every group.
struct GroupRows {
  alignas(64) int32_t starts[kInt8Rows];
  alignas(64) float scales[kInt8Rows];

  GroupRows(const Int8Tile& t, int64_t group) {
    __builtin_memcpy(scales, t.row_scales + group * kInt8Rows, sizeof scales);
    __builtin_memcpy(starts, t.row_sums + group * kInt8Rows, sizeof starts);
    for (int32_t& start : starts) start *= -kOffset;
  }
};

/// Adds a group's sums, scaled, to `to` (kInt8Rows, vectors).
template <int vectors>
[[gnu::always_inline]] inline void add_scaled(const Products<vectors>& sums, const GroupRows& rows,
                                              const float* panel_scales, float* to) {
#pragma GCC unroll 8
  for (int row = 0; row < kInt8Rows; ++row) {
    const Floats scale = splat(rows.scales[row]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v, to += kLanes)
      store(to, fma(to_floats(sums.at[row][v]), scale * load(panel_scales + v * kLanes), load(to)));
  }
}

template <int vectors>
void multiply_tile_with(const Int8Tile& t) {
  constexpr int64_t kWidth = vectors * kLanes;
  for (int64_t row = 0; row < t.rows_count; ++row)
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.y + row * t.y_stride + v * kLanes, 1);
  const RowCode* rows = static_cast<const RowCode*>(t.rows);
  const Code* panel = static_cast<const Code*>(t.panel);
  alignas(64) float y[kInt8Rows * kWidth];
  for (int64_t i = 0; i < kInt8Rows * kWidth; i += kLanes) store(forget(y) + i, splat(0));
  const int64_t panel_columns = kReadsPartsOfStrips && t.panel_columns != 0 ? t.panel_columns : kWidth;
  const int64_t panel_group = round_to(t.group, kStep) * panel_columns;
  for (int64_t g = 0, begin = 0; begin < t.depth; ++g, begin += t.group) {
    const int64_t end = lesser_of(begin + t.group, t.depth);
    fetch(t.next, begin, end);
    const GroupRows group(t, g);
    float* to = forget(y);
    Products<vectors> sums;
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = splat_int(group.starts[row]);
    multiply_group<vectors>(sums, rows + g * t.group_stride, t.rows_stride, panel + g * panel_group,
                            panel_columns * kStep, round_to(end - begin, kStep));
    add_scaled(sums, group, t.panel_scales + g * panel_columns, to);
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
