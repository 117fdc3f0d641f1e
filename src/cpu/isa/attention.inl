// Softmax attention of a panel of queries over a block of keys. INKSTONE_ISA names the instruction set.
//
// Queries lie side by side in the lanes: the scores of a block are a (keys, width) matrix, so that maxima and sums of
// the softmax go straight down and both products read keys and values as they are stored.
#pragma once
#include "cpu/isa/tile.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// scores (keys, width) = k q
template <int vectors>
void score_keys(const AttentionPanel& panel, const KeyBlock& block) {
  for (int64_t key = 0; key < block.keys; key += kTileRows) {
    Sums<vectors> sums = {};
    multiply<vectors, Left::rows>(sums, block.k + key * block.stride, block.stride, panel.q, block.width);
    for (int row = 0; row < kTileRows; ++row)
      for (int v = 0; v < vectors; ++v) store(panel.scores + ((key + row) * vectors + v) * kLanes, sums.at[row][v]);
  }
}

/// Hides the keys that come after a query: query i sees key j if j <= i + diagonal.
void hide_later_keys(const AttentionPanel& panel, const KeyBlock& block, int64_t queries) {
  for (int64_t key = 0; key < block.keys; ++key) {
    const int64_t hidden = key - block.diagonal < queries ? key - block.diagonal : queries;
    for (int64_t i = 0; i < hidden; ++i) panel.scores[key * queries + i] = -__builtin_inff();
  }
}

/// Scores to exp2(score - greatest), with the running maximum and sum; gives the factor for what was summed before.
template <int vectors>
void soften(const AttentionPanel& panel, int64_t keys, Floats (&rescale)[vectors]) {
  for (int v = 0; v < vectors; ++v) {
    float* scores = panel.scores + v * kLanes;
    constexpr int64_t kRow = vectors * kLanes;
    const Floats before = load(panel.greatest + v * kLanes);
    Floats greatest = before;
    for (int64_t key = 0; key < keys; ++key) greatest = greater(load(scores + key * kRow), greatest);
    Floats total = splat(0);
    for (int64_t key = 0; key < keys; ++key) {
      const Floats p = exp2(load(scores + key * kRow) - greatest);
      store(scores + key * kRow, p);
      total = total + p;
    }
    rescale[v] = exp2(before - greatest);
    store(panel.greatest + v * kLanes, greatest);
    store(panel.sum + v * kLanes, fma(load(panel.sum + v * kLanes), rescale[v], total));
  }
}

/// out (width of a head, queries) = out * rescale + vᵀ scores
template <int vectors>
void add_values(const AttentionPanel& panel, const KeyBlock& block, const Floats (&rescale)[vectors]) {
  for (int64_t column = 0; column < block.width; column += kTileRows) {
    float* out = panel.out + column * vectors * kLanes;
    Sums<vectors> sums;
    for (int row = 0; row < kTileRows; ++row)
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = load(out + (row * vectors + v) * kLanes) * rescale[v];
    multiply<vectors, Left::columns>(sums, block.v + column, block.stride, panel.scores, block.keys);
    for (int row = 0; row < kTileRows; ++row)
      for (int v = 0; v < vectors; ++v) store(out + (row * vectors + v) * kLanes, sums.at[row][v]);
  }
}

template <int vectors>
void attend_with(const AttentionPanel& panel, const KeyBlock& block) {
  Floats rescale[vectors];
  score_keys<vectors>(panel, block);
  if (block.diagonal < block.keys - 1) hide_later_keys(panel, block, vectors * kLanes);
  soften<vectors>(panel, block.keys, rescale);
  add_values<vectors>(panel, block, rescale);
}

void attend(const AttentionPanel& panel, const KeyBlock& block) {
  if (panel.vectors == 1) return attend_with<1>(panel, block);
  if (panel.vectors == 2) return attend_with<2>(panel, block);
  attend_with<kPanelVectors>(panel, block);
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
