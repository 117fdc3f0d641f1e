// What the .cu files give to the .cpp files: functions that put kernels into a stream. Pointers are the device's, sizes
// count elements, matrices are row-major. The .cu files see no tensors, so that nvcc compiles little.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "ops/activation.h"
#include "ops/weight_format.h"

namespace inkstone::cuda {

/// Numbers to read, of a float type; absent without data.
struct Numbers {
  const void* data = nullptr;
  DType type = DType::f32;
};

/// Where to write numbers as f32 or bf16.
struct Output {
  void* data = nullptr;
  DType type = DType::f32;
};

/// Where to write rows of numbers in 8 bits: E4M3 codes, and for each row what to multiply them with. Absent without
/// codes.
struct Rounded {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
};

/// First rows of the sequences of a stream, and the end of the last.
struct SequenceStarts {
  const int32_t* begin = nullptr;  // (count + 1)
  int32_t count = 0;
};

/// A (d) vector for each row: `table` row `row[s] + slot` for the sequence s that owns it. Absent without a table.
struct RowVectors {
  Numbers table;
  const int32_t* row = nullptr;
  int64_t slot = 0;
  SequenceStarts sequences;
};

/// A weight matrix in any format: see Weight.
struct Matrix {
  const void* data = nullptr;
  WeightFormat format = WeightFormat::f32;
  int bits = 0;  // of a number or code
  int64_t group = 0;
  int64_t in = 0;
  Numbers scales, offsets;
};

// Weights and types (weights.cu).

/// out (n, in): the rows `ids` of a table, exactly as dequantize_rows() gives them.
void embed(float* out, const Matrix& table, const int32_t* ids, int64_t n, cudaStream_t stream);
/// out (rows, in): the whole matrix.
void expand(const Output& out, const Matrix& matrix, int64_t rows, cudaStream_t stream);
void convert(const Output& out, const Numbers& x, int64_t count, cudaStream_t stream);

/// What to add to a matrix (out, in), factor * up down: see SideBranch.
struct Change {
  Matrix up, down;
  float factor = 1;
};
constexpr int kMaxChanges = 4;
struct Changes {
  Change items[kMaxChanges];
  int count = 0;
};
/// out (rows, in) bf16: the matrix and its changes (changed_weights.cu). Products have bf16 operands; each number of a
/// sum is rounded up or down with the chance that makes it right on average, the same on every run, and to the nearest
/// where there are no changes. out may be where a bf16 matrix is.
void expand_changed(void* out, const Matrix& matrix, int64_t rows, const Changes& changes, cudaStream_t stream);

// Rows (norm.cu, rows.cu, round.cu).

/// out = residual + gate * act(x): what a product leaves to do. out may be where x or residual is.
struct Finish {
  Output out;
  Numbers x;
  Activation activation = Activation::none;
  RowVectors gate;
  Numbers residual;
};
void finish(const Finish& f, int64_t rows, int64_t d, cudaStream_t stream);

struct RmsNorm {
  Output out;
  Numbers x;
  const float* weight = nullptr;
  float eps = 0;
  Activation activation = Activation::none;
};
void rms_norm(const RmsNorm& norm, int64_t rows, int64_t d, cudaStream_t stream);

struct ModulatedNorm {
  int64_t rows = 0, width = 0;
  Output out;
  Rounded rounded;  // if present instead of out: for widths up to kMaxRoundedNorm that divide by kRoundedUnit
  Numbers x;
  RowVectors shift, scale;
  float eps = 0;
};
constexpr int64_t kRoundedUnit = 16, kMaxRoundedNorm = 4096;
/// All parts; two in a launch where they are alike.
void layer_norm_modulate(const ModulatedNorm* parts, int count, cudaStream_t stream);

/// act(x) in 8 bits, for widths up to kMaxRounded that divide by kRoundedUnit.
constexpr int64_t kMaxRounded = 12288;
void round_rows(const Rounded& out, const Numbers& x, Activation activation, int64_t rows, int64_t d,
                cudaStream_t stream);

// Products of mixed codes (mix.cu, int8_product.cu): see ops/mixed_order.h.

/// Of a group of a row's codes: what to multiply them with, and their sum.
struct MixedScale {
  float scale;
  int32_t sum;
};
/// Rows (rows, d) of codes with a sign, and (groups, rows) scales.
struct MixedRows {
  int8_t* codes = nullptr;
  MixedScale* scales = nullptr;
};
/// A matrix in MixedOrder.
struct MixedWeights {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
};
constexpr int64_t kMixedUnit = 16;  // rows and columns of matrices divide by it
/// x times factors (d), mixed and rounded.
void round_mixed_rows(const MixedRows& out, const Numbers& x, const float* factors, int64_t rows, int64_t d,
                      cudaStream_t stream);
/// w (outs, in) divided by factors (in), which are powers of two, mixed and rounded.
void round_mixed_weights(const MixedWeights& out, const Numbers& w, const float* factors, int64_t outs, int64_t in,
                         cudaStream_t stream);
/// Adds to shares (in) the sum over w's outputs of each input's share of an output's squares; `room`: (outs).
void add_shares(float* shares, float* room, const Numbers& w, int64_t outs, int64_t in, cudaStream_t stream);
/// What evens out inputs with such shares: powers of two near the roots of shares over their middle one.
void mixed_factors(float* factors, const float* shares, int64_t in, cudaStream_t stream);

/// Some outputs of a product.
struct MixedSlab {
  const uint8_t* codes = nullptr;
  const float* scales = nullptr;
  int64_t outs = 0;
  int64_t column = 0;  // of the result, where they begin
};
constexpr int kMaxMixedSlabs = 4;
/// out (rows, outs) = residual + gate * act(x wᵀ + bias).
struct MixedProduct {
  const int8_t* codes = nullptr;
  const MixedScale* scales = nullptr;
  int64_t rows = 0, in = 0, outs = 0;  // outs: of all slabs
  MixedSlab slabs[kMaxMixedSlabs];
  int slab_count = 0;
  const float* bias = nullptr;  // (outs); may be absent
  Activation activation = Activation::none;
  RowVectors gate;
  Numbers residual;
  Output out;
};
void multiply_mixed(const MixedProduct& p, cudaStream_t stream);

void swiglu(const Output& out, const Numbers& x, int64_t rows, int64_t m, cudaStream_t stream);
void timestep_embedding(float* out, const float* t, int64_t n, int64_t half, cudaStream_t stream);
/// out (rows, d) = x + factor * v, with the velocity v of Guidance; scale and factor (1).
struct GuidedStep {
  float* out = nullptr;
  Numbers x, cond, uncond;
  const float *scale = nullptr, *factor = nullptr;
};
void guided_step(const GuidedStep& step, int64_t rows, int64_t d, cudaStream_t stream);
void add_scaled(float* out, const Numbers& x, const Numbers& y, const float* factor, int64_t count,
                cudaStream_t stream);
void scale_shift(float* out, const Numbers& x, const float* scale, const float* shift, int64_t count, int64_t d,
                 cudaStream_t stream);
void to_rgb8(uint8_t* out, const Numbers& x, int64_t count, cudaStream_t stream);
void from_rgb8(float* out, const uint8_t* x, int64_t count, cudaStream_t stream);

/// Latents cut into square patches, as patchify and unpatchify of Kernels define it.
struct Patches {
  int64_t side, channels, height, width;  // height and width in latents
};
void patchify(float* out, const Numbers& latents, const Patches& patches, int64_t count, cudaStream_t stream);
void unpatchify(float* out, const Numbers& tokens, const Patches& patches, int64_t count, cudaStream_t stream);

// Attention (join.cu, attention_mma.cu, attention_wgmma.cu, attention_wide.cu, softmax.cu).

/// One stream of a join: see QkvPart. `shift` (sequences) is what to add to a row to find its joined row.
struct JoinPart {
  int64_t rows = 0;
  Numbers qkv;
  const float* q_norm = nullptr;  // (c)
  const float* k_norm = nullptr;
  const float* cos_sin = nullptr;  // (rows, c / 2, 2)
  bool halves = false;             // pairs (k, k + c / 2) instead of neighbours
  SequenceStarts sequences;
  const int32_t* shift = nullptr;
};
struct Joined {
  Output q, k, v;
  int32_t heads = 0, kv_heads = 0, width = 0;
  float eps = 0;
};
/// All parts; two in a launch.
void join_qkv(const Joined& out, const JoinPart* parts, int count, cudaStream_t stream);

// Products together with what follows them (fused_product.cu), with Hopper's instructions.

/// x (rows, depth) times weights (outs, depth), bf16, or E4M3 with a factor for each row of both, and what becomes of
/// it: one of
/// - x wᵀ + bias, or GELU of it, in bf16 at `out`;
/// - GELU of it in 8 bits at `rounded`, with the factor for each row that `bound` allows;
/// - residual + gate * (x wᵀ + bias) in f32 at `out`;
/// - queries, keys and values as join_qkv() makes them, with all of `join` but its qkv.
struct FusedProduct {
  DType type = DType::bf16;
  int64_t rows = 0, outs = 0, depth = 0;
  const void *x = nullptr, *w = nullptr;
  const float *x_scales = nullptr, *w_scales = nullptr;
  const void* bias = nullptr;                // (outs) bf16
  Activation activation = Activation::none;  // not silu
  Output out;
  Rounded rounded;
  const float* bound = nullptr;  // (2): see bound_product()
  RowVectors gate;
  Numbers residual;
  JoinPart join;
};
constexpr int kMaxFused = 2, kFusedHeadWidth = 128;
/// Up to kMaxFused products, alike but for rows and pointers, in one launch. Sizes: see suits_fused().
void fused_products(const FusedProduct* parts, int count, const Joined& joined, cudaStream_t stream);
/// Whether sizes and addresses suit copies of 16 bytes.
bool suits_fused(const FusedProduct& part);

/// bound (2): a row of E4M3 numbers with the factor f times weights (outs, depth), plus bias, gives numbers of at most
/// kMostCode * (f * bound[0] + bound[1]), since |x w| <= |x| |w| <= sqrt(depth) kMostCode f |w|.
void bound_product(float* bound, const Rounded& weights, const void* bias, int64_t outs, int64_t depth,
                   cudaStream_t stream);

/// Some queries of one stream and sequence.
struct Tile {
  int32_t key_begin, key_end;  // of the sequence: joined rows, or where its keys lie in blocks of codes
  int32_t query, queries;      // first joined row, and how many
  int32_t out_row, stream;     // of the first query
};
constexpr int kMaxStreams = 8;
constexpr int kTileQueries = 128;

/// Attention over bf16 q, k, v in tiles of at most kTileQueries queries; widths of heads up to kMaxFlashWidth that
/// divide by 8.
constexpr int kMaxFlashWidth = 128;
struct FlashAttention {
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // (n, heads, c), (n, kv_heads, c) twice
  int64_t rows = 0;                                     // n
  void* out[kMaxStreams] = {};                          // bf16 (rows, heads * c) each
  const Tile* tiles = nullptr;
  int32_t tile_count = 0;
  int32_t heads = 0, kv_heads = 0, width = 0;
  bool causal = false;
};
void attention_mma(const FlashAttention& a, cudaStream_t stream);
/// The same with Hopper's instructions, for heads of 128.
void attention_wgmma(const FlashAttention& a, cudaStream_t stream);
/// With Hopper's instructions, for heads of 384.
constexpr int kWideFlashWidth = 384;
void attention_wide(const FlashAttention& a, cudaStream_t stream);
/// Whether this program holds the kernels with Hopper's instructions for the present device.
bool has_wgmma();

// Attention in 8 bits with Hopper's instructions, for heads of 128 that see all keys (code_qkv.cu, attention_8bit.cu):
// queries times keys in whole numbers, weights times values in E4M3.

constexpr int kCodedHeadWidth = kMaxFlashWidth;
constexpr int kCodedQueries = 192, kCodedKeys = 96;  // of a tile at most, and of a block
constexpr int kCodedSlots = 128;                     // bytes of a row of turned values: one for each key, and some more
constexpr int kCodedValueRows = kCodedHeadWidth + 8;  // of a block: one for each channel, and rows of ones
/// Keys of one sequence that lie in a block, in joined rows: the first, and those of the sequence.
struct KeyBlock {
  int32_t first, begin, end;
};
/// What a block's codes stand for.
struct alignas(16) KeyBlockScales {
  float key;    ///< times a score
  float power;  ///< log2 of what its values are divided by beyond `value`
  float value;  ///< of all values of the sequence and head
};
/// Numbers in 8 bits: queries with a scale for each row and head, keys without what most of them have in common, both
/// rotated, and values turned. A block's row of ones, weakened as its values are, sums up weights. What a last block
/// lacks is its last key again, and no value.
struct CodedQkv {
  int8_t* q = nullptr;               ///< (n, heads, 128)
  float* q_scales = nullptr;         ///< (heads, n), of scores as powers of two
  int8_t* k = nullptr;               ///< (kv_heads, blocks, kCodedKeys, 128)
  uint8_t* v = nullptr;              ///< E4M3 (kv_heads, blocks, kCodedValueRows, kCodedSlots)
  KeyBlockScales* scales = nullptr;  ///< (kv_heads, blocks)
  const KeyBlock* blocks = nullptr;
  int32_t block_count = 0;
};
/// Of the bf16 q, k and v of `a`.
void code_qkv(const CodedQkv& to, const FlashAttention& a, cudaStream_t stream);
/// In tiles of kCodedQueries queries, whose keys are numbered as they lie in blocks.
void attention_8bit(const FlashAttention& a, const CodedQkv& coded, cudaStream_t stream);

/// Rows of scores (batch, queries, keys) f32 to weights. Row i sees the keys up to `first + i` if causal, else all.
struct Softmax {
  Output out;
  const float* scores = nullptr;
  int64_t batch = 0, queries = 0, keys = 0;
  float factor = 1;    // of the scores
  int64_t first = -1;  // negative: not causal
};
void softmax(const Softmax& s, cudaStream_t stream);

// Convolutions (im2col.cu, conv.cu, conv_wgmma.cu, conv_boxes.cu, conv_resident.cu).

constexpr int kTaps = 9;  // of a kernel

/// x (count, height, width, in) channels last under a 3x3 kernel, output (count, out_height, out_width, ...).
struct Convolution {
  Numbers x;
  int64_t count = 0, height = 0, width = 0, in = 0;
  int64_t out_height = 0, out_width = 0, out = 0;
  int stride = 1, upsampling = 1, before = 1;  // before: rows and columns of zeros above and to the left
};
/// out (rows, kTaps * in): what the kernel sees at the output pixels [first, first + rows).
void im2col(const Output& out, const Convolution& c, int64_t first, int64_t rows, cudaStream_t stream);

/// Of a convolution's result over its channels, as rms_norm with silu; without a weight: none.
struct ConvolutionNorm {
  const float* weight = nullptr;
  float eps = 0;
};

/// bf16 x and weights (out, 9 * in), all else f32, but what boxes give may be bf16; `in` divides by 8.
struct ConvolutionProduct {
  Convolution shape;
  const void* weight = nullptr;
  const float* bias = nullptr;
  Numbers residual;
  Output out;
  ConvolutionNorm norm;  // only with suits_boxes() and norms_in_boxes(), and out is bf16 then
};
void conv2d_mma(const ConvolutionProduct& c, cudaStream_t stream);
/// The same with Hopper's instructions.
void conv2d_wgmma(const ConvolutionProduct& c, cudaStream_t stream);
/// The same where pictures are not halved, and input and output channels are many. For a doubled picture the weights
/// are those of sum_taps().
bool suits_boxes(const ConvolutionProduct& c);
/// out bf16 (2, 2, outs, 2, 2, in): kernels of the even and odd rows and columns of a doubled picture over the small
/// one, from bf16 weights (outs, 3, 3, in).
void sum_taps(void* out, const void* weight, int64_t outs, int64_t in, cudaStream_t stream);
void conv2d_boxes(const ConvolutionProduct& c, cudaStream_t stream);
bool norms_in_boxes(int64_t outs, const float* weight);
/// The same with weights that stay in shared memory: where they fit, and output channels are at most 96 or few.
bool suits_resident(const ConvolutionProduct& c);
void conv2d_resident(const ConvolutionProduct& c, cudaStream_t stream);

}  // namespace inkstone::cuda
