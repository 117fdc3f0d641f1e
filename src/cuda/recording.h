// Work that the device is told of once and does again as one launch (CUDA graphs).
#pragma once
#include "cuda/context.h"
#include "ops/recording.h"

namespace inkstone {

/// See Device::record(). The context must outlive the recording.
std::unique_ptr<Recording> record_work(CudaContext& context, std::span<const Tensor> inputs, const RecordedWork& work);

}  // namespace inkstone
