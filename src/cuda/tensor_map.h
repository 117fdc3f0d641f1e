// Descriptions of tensors for Hopper's copies of boxes (CUDA driver API: cuTensorMapEncodeTiled).
#pragma once
#include <array>
#include <cuda.h>

#include "cuda/launch.h"

namespace inkstone::cuda {

/// f32, bf16 or E4M3 numbers of up to four dimensions, the fastest first, copied in boxes: those with rows of 128 or 64
/// bytes lie as `describe` or `describe_short` of wgmma.cuh want them, others as they are. What lies outside of the
/// tensor reads as zeros. `strides`: numbers from one to the next in all dimensions but the first, which has no gaps;
/// 0: the others have none either.
struct BoxedTensor {
  Numbers numbers;
  std::array<int64_t, 4> sizes = {1, 1, 1, 1};
  std::array<int32_t, 4> box = {1, 1, 1, 1};
  std::array<int64_t, 3> strides = {};
};
CUtensorMap tensor_map(const BoxedTensor& tensor);

}  // namespace inkstone::cuda
