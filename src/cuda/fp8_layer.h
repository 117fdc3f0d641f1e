// What the cuda device makes of a layer that it computes in 8 bits (E4M3), once.
#pragma once
#include "cuda/weight_uploads.h"
#include "ops/weight.h"

namespace inkstone {

struct Fp8Layer final : DeviceForm {
  Tensor codes;   ///< F8_E4M3 (out, in), the slabs one below the other, their side branches taken in
  Tensor scales;  ///< f32 (out): of each row of codes
  Tensor bias;    ///< bf16 (out); absent if no slab has one
  Tensor bound;   ///< f32 (2): see bound_product(); only where there are kernels with Hopper's instructions
};

/// Whether a layer may be rounded and has the sizes for it: cuBLASLt takes multiples of 16. One that is in E4M3 already
/// and has side branches is not rounded again.
bool suits_fp8(const Linear& layer);

/// Bytes of its form.
size_t fp8_bytes(const Linear& layer);

/// Made when it is first asked for. Weights in E4M3 with a scale for each output, or one for all, stay what they are.
const Fp8Layer& fp8_layer(CudaContext& context, const Linear& layer);

/// The layer's weights become views of its form, so that the memory of those that it had is free soon; it has no side
/// branches then. The form is filled once they are uploaded.
void keep_in_fp8(CudaContext& context, WeightUploads& uploads, Linear& layer);

}  // namespace inkstone
