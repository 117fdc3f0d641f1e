// Shared memory beyond what every kernel gets.
#pragma once
#include "cuda/cuda_error.h"

namespace inkstone::cuda {

/// Lets a kernel be launched with so many bytes. `op` is told where the device has less.
template <class... Arguments>
void allow_shared_memory(void (*kernel)(Arguments...), int bytes, const char* op) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), op);
}

}  // namespace inkstone::cuda
