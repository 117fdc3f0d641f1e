// Softmax attention in 8 bits. INKSTONE_ISA names the instruction set, whose codes take a byte.
#pragma once
#include "cpu/int8_attention_ops.h"
#include "cpu/isa/int8.inl"
#include "cpu/isa/int8_tables.h"

namespace inkstone::INKSTONE_ISA {
namespace {

/// 2^x for x >= -60, else next to nothing; relative error 1e-4, a fortieth of a weight's step. NaN gives any number.
inline Floats coarse_exp2(Floats x) {
  x = greater(x, splat(-60.0f));
  const Floats n = nearest(x);
  const Floats f = x - n;
  const Floats q = fma(fma(splat(0.05500895f), f, splat(0.24221101f)), f, splat(0.69328293f));
  return times_power_of_two(fma(q, f, splat(1.0f)), n);
}

void round_key_rows(const KeyRows& rows, const Int8KeyBlock& to, float* room) {
  for (int64_t key = 0; key < to.keys; ++key)
    for_vectors(to.width, [&](int64_t i, int64_t width) {
      store_some(room + key * to.width + i,
                 load_some(rows.k + key * rows.stride + i, width) - load_some(rows.k_mean + i, width), width);
    });
  quantize_pixels({room, to.width, to.keys, to.width, to.k, to.depth, to.k_scales, to.k_sums});
  float fault = 0;
  for (int64_t key = 0; key < to.keys; ++key) {
    for (int64_t i = to.width; i < to.depth; ++i) to.k[key * to.depth + i] = 0;
    fault += to.k_scales[key] * 0;
  }
  *to.fault = fault;
  const int64_t last = to.keys - 1;
  for (int64_t key = to.keys; key < round_to(to.keys, kInt8Rows); ++key) {
    __builtin_memcpy(to.k + key * to.depth, to.k + last * to.depth, static_cast<size_t>(to.depth));
    to.k_scales[key] = to.k_scales[last];
    to.k_sums[key] = to.k_sums[last];
  }
}

/// room (width, kInt8Keys) = vᵀ without its mean, with zeros for keys that are missing.
void turn_values(const KeyRows& rows, const Int8KeyBlock& to, float* room) {
  for_vectors(to.width, [&](int64_t column, int64_t width) {
    const Floats mean = load_some(rows.v_mean + column, width);
    for (int64_t key = 0; key < kInt8Keys; key += kLanes) {
      Floats square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        square[i] = key + i < to.keys ? load_some(rows.v + (key + i) * rows.stride + column, width) - mean : splat(0);
      transpose(square);
      for (int64_t i = 0; i < width; ++i) store(room + (column + i) * kInt8Keys + key, square[i]);
    }
  });
}

void round_keys(const KeyRows& rows, const Int8KeyBlock& to, float* room) {
  round_key_rows(rows, to, room);
  turn_values(rows, to, room);
  int32_t sums[kInt8MostGroup];  // nobody reads them: weights have no offset
  quantize_pixels({room, kInt8Keys, to.width, kInt8Keys, to.v, kInt8Keys, to.v_scales, sums});
  for (int64_t i = to.width; i < round_to(to.width, kInt8Rows); ++i) {
    to.v_scales[i] = 0;
    for (int64_t key = 0; key < kInt8Keys; ++key) to.v[i * kInt8Keys + key] = 0;
  }
}

/// Scores (keys, queries) without the queries' scales, and the greatest of each query.
template <int vectors>
void score_keys(const Int8QueryPanel& panel, const Int8KeyBlock& block, Floats (&greatest)[vectors]) {
  for (Floats& g : greatest) g = splat(-__builtin_inff());
  for (int64_t key = 0; key < block.keys; key += kInt8Rows) {
    Products<vectors> sums;
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = splat_int(-kOffset * block.k_sums[key + row]);
    multiply_group<vectors>(sums, block.k + key * block.depth, block.depth, static_cast<const Code*>(panel.q),
                            vectors * kLanes * kStep, block.depth);
    float* scores = panel.scores + key * vectors * kLanes;
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row) {
      const Floats scale = splat(block.k_scales[key + row]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v, scores += kLanes) {
        const Floats score = to_floats(sums.at[row][v]) * scale;
        store(scores, score);
        greatest[v] = greater(score, greatest[v]);
      }
    }
  }
}

/// Codes of the weights of a vector of queries, and their sums. `greatest` is of the scores.
template <int vectors>
Floats weigh_keys(const Int8QueryPanel& panel, int64_t keys, int v, Floats greatest) {
  constexpr int64_t kRow = vectors * kLanes;
  constexpr float kLogOfGreatest = 7.99435344f;  // log2(kInt8GreatestWeight)
  const RowCode ones[kStep] = {1, 1, 1, 1};
  const float* scores = panel.scores + v * kLanes;
  const Floats scale = load(panel.q_scales + v * kLanes);
  Wholes total = splat_int(0);
  for (int64_t key = 0; key < keys; key += kStep) {
    Wholes codes[kStep];
    for (int64_t i = 0; i < kStep; ++i)
      codes[i] = to_wholes(coarse_exp2(fma(load(scores + (key + i) * kRow) - greatest, scale, splat(kLogOfGreatest))));
    const Wholes step = first_codes(join_codes(codes), keys - key);
    store_step(panel.weights + (key * vectors + v * kStep) * kLanes, step);
    total = add_products(total, step, splat_step(ones));
  }
  return to_floats(total);
}

/// Makes sums relative to greater scores, where these are so much greater that f32 might not hold them otherwise.
template <int vectors>
void move_greatest(const Int8QueryPanel& panel, const Int8KeyBlock& block, int v, Floats greatest) {
  constexpr float kSlack = 32;  // of scores, so of powers of two
  alignas(64) float now[kLanes];
  float* before = panel.greatest + v * kLanes;
  store(now, greatest);
  bool moves = false;
  for (int i = 0; i < kLanes; ++i) moves |= now[i] > before[i] + kSlack;
  if (!moves) return;
  for (int i = 0; i < kLanes; ++i) now[i] = now[i] > before[i] + kSlack ? now[i] : before[i];
  const Floats rescale = exp2(load(before) - load(now));
  store(before, load(now));
  store(panel.sum + v * kLanes, load(panel.sum + v * kLanes) * rescale);
  for (int64_t i = 0; i < block.width; ++i) {
    float* out = panel.out + (i * vectors + v) * kLanes;
    store(out, load(out) * rescale);
  }
}

/// out (channels, queries) += vᵀ weights * factors
template <int vectors>
void add_values(const Int8QueryPanel& panel, const Int8KeyBlock& block, const Floats (&factors)[vectors]) {
  for (int64_t channel = 0; channel < block.width; channel += kInt8Rows) {
    Products<vectors> sums;
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = splat_int(0);
    multiply_group<vectors>(sums, block.v + channel * kInt8Keys, kInt8Keys, panel.weights, vectors * kLanes * kStep,
                            round_to(block.keys, kStep));
    float* out = panel.out + channel * vectors * kLanes;
#pragma GCC unroll 8
    for (int row = 0; row < kInt8Rows; ++row) {
      const Floats scale = splat(block.v_scales[channel + row]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v, out += kLanes)
        store(out, fma(to_floats(sums.at[row][v]), scale * factors[v], load(out)));
    }
  }
}

template <int vectors>
void attend_with(const Int8QueryPanel& panel, const Int8KeyBlock& block) {
  Floats greatest[vectors], factors[vectors];
  score_keys<vectors>(panel, block, greatest);
  for (int v = 0; v < vectors; ++v) {
    const Floats total = weigh_keys<vectors>(panel, block.keys, v, greatest[v]);
    const Floats score = greatest[v] * load(panel.q_scales + v * kLanes);
    move_greatest<vectors>(panel, block, v, score);
    factors[v] = exp2(score - load(panel.greatest + v * kLanes)) + splat(*block.fault);
    float* sum = panel.sum + v * kLanes;
    store(sum, fma(total, factors[v], load(sum)));
  }
  add_values<vectors>(panel, block, factors);
}

void attend(const Int8QueryPanel& panel, const Int8KeyBlock& block) {
  if (panel.vectors == 1) return attend_with<1>(panel, block);
  if (panel.vectors == 2) return attend_with<2>(panel, block);
  attend_with<kInt8Vectors>(panel, block);
}

}  // namespace

const Int8AttentionOps kInt8AttentionOps = {.round_keys = round_keys, .attend = attend};

}  // namespace inkstone::INKSTONE_ISA
