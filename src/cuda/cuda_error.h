// CUDA's status codes as Errors.
#pragma once
#include <cuda_runtime_api.h>

#include "core/error.h"

namespace inkstone {

/// Throws Error "device cuda: `what`: CUDA's words" unless the call went well.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next check would see it again
  fail("device cuda: {}: {}", what, cudaGetErrorString(status));
}

}  // namespace inkstone
