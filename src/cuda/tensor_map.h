// Descriptions of tensors for Hopper's copies of boxes (CUDA driver API: cuTensorMapEncodeTiled).
#pragma once
#include <array>
#include <cuda.h>

#include "cuda/launch.h"

namespace inkstone::cuda {

/// f32, bf16 or E4M3 numbers of up to four dimensions, the fastest first and without gaps, copied in boxes: those with
/// rows of 128 bytes lie as `describe` of wgmma.cuh wants them, others as they are. What lies outside of the tensor
/// reads as zeros.
struct BoxedTensor {
  Numbers numbers;
  std::array<int64_t, 4> sizes = {1, 1, 1, 1};
  std::array<int32_t, 4> box = {1, 1, 1, 1};
};
CUtensorMap tensor_map(const BoxedTensor& tensor);

}  // namespace inkstone::cuda
