// What the cuda device makes of a layer that it computes in whole numbers of 8 bits, once: mixed codes.
#pragma once
#include "cuda/weight_uploads.h"
#include "ops/weight.h"

namespace inkstone {

struct MixedLayer final : DeviceForm {
  std::vector<Weight> weights;  ///< of the slabs, side branches taken in; all with the same factors
  Tensor bias;                  ///< f32 (out); absent if no slab has one
};

/// Whether the device rounds such layers, and this one may be and has the sizes for it.
bool suits_mixed(const CudaContext& context, const Linear& layer);

/// Bytes of its form.
size_t mixed_bytes(const Linear& layer);

/// Made when it is first asked for; weights that are mixed codes already stay where they are.
const MixedLayer& mixed_layer(CudaContext& context, const Linear& layer);

/// The layer's weights become those of its form, so that the memory of those that it had is free soon; it has no side
/// branches then. The form is filled once they are uploaded.
void keep_mixed(CudaContext& context, WeightUploads& uploads, Linear& layer);

}  // namespace inkstone
