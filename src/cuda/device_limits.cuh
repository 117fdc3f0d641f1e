// What launches ask of the device: shared memory beyond what every kernel gets, and how many multiprocessors it has.
#pragma once
#include "cuda/cuda_error.h"

namespace inkstone::cuda {

/// Lets a kernel be launched with so many bytes. `op` is told where the device has less.
template <class... Arguments>
void allow_shared_memory(void (*kernel)(Arguments...), int bytes, const char* op) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), op);
}

inline int multiprocessors(const char* op) {
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), op);
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), op);
  return count;
}

}  // namespace inkstone::cuda
