// What the cuda device makes of a layer that it computes in 8 bits (E4M3), once.
#pragma once
#include "cuda/context.h"
#include "ops/weight.h"

namespace inkstone {

/// A side branch: down is rounded as its layer is, up stays in bf16, since little work is done with it.
struct Fp8Branch {
  Tensor codes;   ///< F8_E4M3 (rank, in), with rows of zeros up to a multiple of cuda::kRoundedUnit
  Tensor scales;  ///< f32 (rank) likewise
  Tensor up;      ///< bf16 (outputs of its slab, rank)
  float factor = 1;
  int64_t column = 0;  ///< the first output of its slab
};

struct Fp8Layer final : DeviceForm {
  Tensor codes;                     ///< F8_E4M3 (out, in), the slabs one below the other
  Tensor scales;                    ///< f32 (out): of each row of codes
  Tensor bias;                      ///< bf16 (out); absent if no slab has one
  std::vector<Fp8Branch> branches;  ///< of all slabs, one after the other
};

/// Whether a layer may be rounded and has the sizes for it: cuBLASLt takes multiples of 16.
bool suits_fp8(const Linear& layer);

/// Bytes of its form, side branches included.
size_t fp8_bytes(const Linear& layer);

/// Made when it is first asked for. Weights in E4M3 with a scale for each output, or one for all, stay what they are.
const Fp8Layer& fp8_layer(CudaContext& context, const Linear& layer);

/// The layer's weights become views of its form, so that the memory of those that it had is free.
void keep_in_fp8(CudaContext& context, Linear& layer);

}  // namespace inkstone
