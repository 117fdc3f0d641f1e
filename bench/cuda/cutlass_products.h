// A block's products by CUTLASS together with what follows them, for cutlass_ladder. NVIDIA's headers take minutes to
// compile, so each type of numbers has a file of its own and none of them is seen by the ladder.
#pragma once
#include <cuda_bf16.h>
#include <vector>

#include "ladder.h"

namespace ladder {

/// x (rows, depth) times each of `weights` (outs, depth), row-major. In FP8 numbers are E4M3 codes and each row of both
/// has a factor. Without a gate GELU (the tanh form) of x wᵀ + bias in bf16 at `out`, with one
/// residual + gate * (x wᵀ + bias) in f32.
struct CutlassOperands {
  int rows = 0, outs = 0, depth = 0;
  const void* x = nullptr;
  std::vector<const void*> weights;  ///< round after round the next
  const float *x_scales = nullptr, *w_scales = nullptr;
  const __nv_bfloat16* bias = nullptr;
  const float *gate = nullptr, *residual = nullptr;  ///< (outs), (rows, outs)
  void* out = nullptr;
};

/// In several shapes of tiles and orders of them, from CUTLASS's builders for sm_90a. The program ends with a line on
/// stderr where one does not take the sizes.
std::vector<Step> cutlass_bf16(const CutlassOperands& operands);
std::vector<Step> cutlass_fp8(const CutlassOperands& operands);

}  // namespace ladder
