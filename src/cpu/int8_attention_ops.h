// Attention in 8 bits, for processors whose 8-bit products are at least twice as fast as those of f32.
//
// Queries and keys share a scale each, a block's values one for each channel. Keys and values are rounded as what is
// left of them without a mean over some rows of the sequence: no weight depends on the keys', and the values' is added
// to a result (the keys' as Zhang et al., SageAttention, 2024). Weights of the softmax are whole numbers in [0, 255]
// beside the greatest of a query's block, and their sum is that of the whole numbers. Sums over a block are exact;
// between blocks they are f32.
#pragma once
#include "cpu/int8_ops.h"

namespace inkstone {

/// Keys of a block: more of them follow the values' outliers less well, fewer cost more.
constexpr int64_t kInt8Keys = 128;

/// Rows of a sequence that its means are of, or up to twice as many: any vector would do, the mean leaves least.
constexpr int64_t kInt8MeanRows = 64;

/// What weights of the softmax are counted in.
constexpr int kInt8GreatestWeight = 255;

/// Keys and values of one head, f32, rows `stride` numbers apart, and what is subtracted from each of them (width).
struct KeyRows {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t stride = 0;
  const float* k_mean = nullptr;
  const float* v_mean = nullptr;
};

/// The same as codes. Rows are rounded up to whole tiles: keys by the last key again, channels by zeros.
struct Int8KeyBlock {
  int8_t* k = nullptr;        ///< (keys, depth)
  int8_t* v = nullptr;        ///< (channels, kInt8Keys)
  float* k_scales = nullptr;  ///< (keys)
  int32_t* k_sums = nullptr;  ///< (keys)
  float* v_scales = nullptr;  ///< (channels)
  float* fault = nullptr;     ///< 0, or NaN where a key is not finite
  int64_t keys = 0;           ///< at most kInt8Keys
  int64_t width = 0;          ///< of the head, at most kInt8MostGroup
  int64_t depth = 0;          ///< the same, rounded up to whole steps of products
};

/// As AttentionPanel, with rounded queries.
struct Int8QueryPanel {
  const void* q = nullptr;          ///< as Int8Ops::pack_lanes leaves them
  const float* q_scales = nullptr;  ///< (queries): with the factor of the scores, for exp2
  int64_t vectors = 0;              ///< of queries
  float* scores = nullptr;          ///< room for (kInt8Keys in whole tiles, queries)
  uint8_t* weights = nullptr;       ///< room for (kInt8Keys, queries)
  float* greatest = nullptr;        ///< (queries): what `sum` and `out` are relative to; -infinity at first
  float* sum = nullptr;             ///< (queries)
  float* out = nullptr;             ///< (channels, queries)
};

struct Int8AttentionOps {
  /// Takes `room` for (width rounded up to whole vectors, kInt8Keys) numbers.
  void (*round_keys)(const KeyRows& rows, const Int8KeyBlock& to, float* room);
  void (*attend)(const Int8QueryPanel& panel, const Int8KeyBlock& block);
};

/// Null where `int8` are products that do not pay.
const Int8AttentionOps* int8_attention_ops(const Int8Ops& int8);

}  // namespace inkstone
