// What the CPU's kernels do to rows of numbers, compiled once per instruction set and picked when the program starts.
//
// The algorithms stand once, in src/cpu/isa/*.inl. This header is read by those files too: it names no std template, as
// an inline function of one compiled for a wide instruction set could replace everyone else's.
#pragma once
#include <cstdint>

#include "ops/activation.h"
#include "ops/weight_format.h"

namespace inkstone {

/// An instruction set that the row functions are compiled for, worst first.
enum class Isa : uint8_t {
  scalar,    ///< what every processor of the architecture has
  avx2,      ///< with FMA and F16C
  avx_vnni,  ///< avx2 with 8-bit products in vectors of 32 bytes; all else is avx2's
  avx512,    ///< F, BW, DQ, VL
};

/// y = residual + gate * act(x + bias); null parts are skipped.
struct RowEpilogue {
  const float* bias = nullptr;
  Activation activation = Activation::none;
  const float* gate = nullptr;
  const float* residual = nullptr;
};

/// Up to panel_vectors * lanes queries side by side, and what attention has gathered for them so far.
struct AttentionPanel {
  int64_t vectors = 0;        ///< queries / lanes, rounded up; missing queries are zeros
  float* q = nullptr;         ///< (head width, queries), times log2(e) / sqrt(head width)
  float* scores = nullptr;    ///< room for (keys rounded up to whole tiles, queries)
  float* greatest = nullptr;  ///< (queries) of the scores; -infinity at first
  float* sum = nullptr;       ///< (queries) of 2^(score - greatest); 0 at first
  float* out = nullptr;  ///< (head width rounded up to whole tiles, queries) before division by the sum; 0 at first
};

/// Keys and values of one head, (keys, stride) each, rounded up to whole tiles both ways. What pads them must be
/// finite.
struct KeyBlock {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t stride = 0;
  int64_t keys = 0;
  int64_t width = 0;  ///< of the head
  /// Query i sees key j if j <= i + diagonal. The first block that a query is given must show it a key.
  int64_t diagonal = 0;
};

/// A few rows times a strip of packed weights: y (rows, columns) = x (rows, depth) panel (depth, columns).
struct ProductTile {
  const float* x = nullptr;  ///< always tile_rows rows of any numbers, of which `rows` count
  int64_t x_stride = 0;
  const float* panel = nullptr;  ///< columns rounded up to whole vectors, at most panel_vectors
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;                    ///< in places
  bool accumulate = false;              ///< y += instead of y =
  const float* row_scales = nullptr;    ///< (rows) and
  const float* panel_scales = nullptr;  ///< (columns), whole vectors: what y is multiplied with, if there are such
};

/// How rows meet packed weights. Tiles are those of the instruction set.
struct PanelOps {
  int64_t inputs;  ///< in a place of 4 bytes: an f32, or two numbers of 16 bits

  /// n weights of an output as places, and what products with them are to be multiplied with; null: f32 as they are
  void (*round_weights)(const float* w, int64_t n, float* places, float* scale);
  void (*multiply_tile)(const ProductTile& tile);
};

/// Row functions read and write n numbers; `out` may be the same row as an input. No pointer needs alignment.
/// Errors in units in the last place of f32: exp 2; silu 4; gelu_tanh 4 for x > 0, and 4 (1 + |u|) for x < 0, where
/// the result is about x e^u and the rounding of u counts.
struct VectorOps {
  Isa isa;

  void (*exp)(const float* x, int64_t n, float* out);
  void (*epilogue)(const float* x, const RowEpilogue& epilogue, int64_t n, float* out);
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);  ///< silu(gate) * up
  void (*add_scaled)(const float* x, const float* y, float factor, int64_t n, float* out);
  void (*scale_shift)(const float* x, const float* scale, const float* shift, int64_t n, float* out);

  /// shares += x² / (sum of x²), unless that sum is zero or NaN; bit for bit the same in every instruction set
  void (*add_shares)(const float* x, int64_t n, float* shares);

  /// For the weights of a format, bit for bit as dequantize_rows() has it.
  Expand (*expander)(WeightFormat format);

  /// Pixels in [-1, 1] to bytes: 127.5 x + 127.5, at least 0 (also for NaN) and at most 255, to nearest, ties to even.
  void (*to_bytes)(const float* x, int64_t n, uint8_t* out);

  /// x + factor * y |cond| / |y| with y = uncond + scale (cond - uncond); x where y is zero
  void (*guided_step)(const float* x, const float* cond, const float* uncond, float scale, float factor, int64_t n,
                      float* out);

  /// act(x / sqrt(mean(x²) + eps) * weight)
  void (*rms_norm)(const float* x, const float* weight, float eps, Activation activation, int64_t n, float* out);
  /// (x - mean) / sqrt(variance + eps) * (1 + scale) + shift
  void (*layer_norm_modulate)(const float* x, const float* scale, const float* shift, float eps, int64_t n, float* out);

  /// Rotates pairs of a head of n numbers (n even) by the angles whose cos and sin alternate in cos_sin (n).
  void (*rope_neighbours)(const float* x, const float* cos_sin, int64_t n, float* out);
  void (*rope_halves)(const float* x, const float* cos_sin, int64_t n, float* out);

  int64_t lanes;          ///< numbers in a vector
  int64_t tile_rows;      ///< of the matrix products of attention
  int64_t panel_vectors;  ///< at most in a panel of queries
  void (*attend)(const AttentionPanel& panel, const KeyBlock& block);

  /// Up to `lanes` rows of weights (outputs, depth) as a column of vectors: place k of output i goes to
  /// panel[k * panel_stride + i]. Lanes without an output are zeros. Moves bits only.
  void (*pack_lanes)(const float* w, int64_t stride, int64_t outputs, int64_t depth, float* panel,
                     int64_t panel_stride);
  PanelOps panel;  ///< of f32

  /// Independent chains of multiply-adds in registers, for measuring what the processor can do.
  float (*multiply_add_chains)(int64_t rounds, float start);
  int64_t multiply_adds_per_round;
};

/// Whether this processor and its system can run an instruction set.
bool supports(Isa isa);

/// "scalar", "avx2", "avx_vnni", "avx512"
const char* name_of(Isa isa);

/// For the best instruction set that this processor has.
const VectorOps& vector_ops();

/// For a given one. Throws Error if the processor lacks it.
const VectorOps& vector_ops(Isa isa);

}  // namespace inkstone
