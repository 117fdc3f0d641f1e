// What the CPU's kernels do to rows of numbers, compiled once per instruction set and picked when the program starts.
//
// The algorithms stand once, in src/cpu/isa/*.inl. This header is read by those files too: it names no std template, as
// an inline function of one compiled for a wide instruction set could replace everyone else's.
#pragma once
#include <cstdint>

#include "ops/activation.h"

namespace inkstone {

/// An instruction set that the row functions are compiled for, worst first.
enum class Isa : uint8_t {
  scalar,  ///< what every processor of the architecture has
  avx2,    ///< with FMA and F16C
  avx512,  ///< F, BW, DQ, VL
};

/// y = residual + gate * act(x + bias); null parts are skipped.
struct RowEpilogue {
  const float* bias = nullptr;
  Activation activation = Activation::none;
  const float* gate = nullptr;
  const float* residual = nullptr;
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
  float (*dot)(const float* x, const float* y, int64_t n);

  /// The numbers of other formats as f32, exactly.
  void (*expand_bf16)(const uint16_t* x, int64_t n, float* out);
  void (*expand_f16)(const uint16_t* x, int64_t n, float* out);
  /// Packed codes, lowest bits first: scale[i / group] * code[i] + offset[i / group], product and sum each rounded as
  /// in dequantize_rows(). n and group are multiples of the codes in a word, 8 or 4.
  void (*expand_affine4)(const uint32_t* words, const float* scale, const float* offset, int64_t group, int64_t n,
                         float* out);
  void (*expand_affine8)(const uint32_t* words, const float* scale, const float* offset, int64_t group, int64_t n,
                         float* out);

  /// act(x / sqrt(mean(x²) + eps) * weight)
  void (*rms_norm)(const float* x, const float* weight, float eps, Activation activation, int64_t n, float* out);
  /// (x - mean) / sqrt(variance + eps) * (1 + scale) + shift
  void (*layer_norm_modulate)(const float* x, const float* scale, const float* shift, float eps, int64_t n, float* out);

  /// Rotates pairs of a head of n numbers (n even) by the angles whose cos and sin alternate in cos_sin (n).
  void (*rope_neighbours)(const float* x, const float* cos_sin, int64_t n, float* out);
  void (*rope_halves)(const float* x, const float* cos_sin, int64_t n, float* out);
};

/// Whether this processor and its system can run an instruction set.
bool supports(Isa isa);

/// "scalar", "avx2", "avx512"
const char* name_of(Isa isa);

/// For the best instruction set that this processor has.
const VectorOps& vector_ops();

/// For a given one. Throws Error if the processor lacks it.
const VectorOps& vector_ops(Isa isa);

}  // namespace inkstone
