// Products of rows with packed weights. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/tile.inl"
#include "cpu/isa/transpose.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

void pack_lanes(const float* w, int64_t stride, int64_t outputs, int64_t depth, float* panel, int64_t panel_stride) {
  for_vectors(depth, [=](int64_t k, int64_t width) {
    Floats square[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) square[i] = i < outputs ? load_some(w + i * stride + k, width) : splat(0);
    transpose(square);
    for (int64_t i = 0; i < width; ++i) store(panel + (k + i) * panel_stride, square[i]);
  });
}

/// Adds or stores a whole tile. Loops of known length only, or the sums would not stay in registers.
template <int vectors, bool accumulate>
inline void write_sums(const Sums<vectors>& sums, float* y, int64_t stride) {
  for (int row = 0; row < kTileRows; ++row)
    for (int v = 0; v < vectors; ++v) {
      float* to = y + row * stride + v * kLanes;
      store(to, accumulate ? load(to) + sums.at[row][v] : sums.at[row][v]);
    }
}

/// The part of a tile that is in the result.
template <int vectors>
void write_part(const Sums<vectors>& sums, const ProductTile& t) {
  constexpr int64_t kWidth = vectors * kLanes;
  float all[kTileRows * kWidth];
  write_sums<vectors, false>(sums, all, kWidth);
  for (int64_t row = 0; row < t.rows; ++row)
    for_vectors(t.columns, [&](int64_t i, int64_t width) {
      const Floats sum = load(all + row * kWidth + i);
      float* y = t.y + row * t.y_stride + i;
      store_some(y, t.accumulate ? load_some(y, width) + sum : sum, width);
    });
}

template <int vectors>
void multiply_tile_with(const ProductTile& t) {
  // The result is added last: by then it has come from wherever it was.
  for (int64_t row = 0; row < t.rows; ++row)
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(t.y + row * t.y_stride + v * kLanes, 1);
  Sums<vectors> sums = {};
  multiply<vectors, Left::rows>(sums, t.x, t.x_stride, t.panel, t.depth);
  if (t.rows < kTileRows || t.columns < vectors * kLanes) return write_part(sums, t);
  if (t.accumulate)
    write_sums<vectors, true>(sums, t.y, t.y_stride);
  else
    write_sums<vectors, false>(sums, t.y, t.y_stride);
}

void multiply_tile(const ProductTile& tile) {
  if (tile.columns <= kLanes) return multiply_tile_with<1>(tile);
  if (tile.columns <= 2 * kLanes) return multiply_tile_with<2>(tile);
  multiply_tile_with<kPanelVectors>(tile);
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
