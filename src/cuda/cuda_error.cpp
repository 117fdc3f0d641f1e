#include "cuda/cuda_error.h"

#include "core/error.h"

namespace inkstone {

std::string current_cuda_device() {
  int index = 0;
  return cudaGetDevice(&index) == cudaSuccess ? fmt::format("cuda:{}", index) : "cuda";
}

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next check would see it again
  fail("device {}: {}: {}", current_cuda_device(), what, cudaGetErrorString(status));
}

}  // namespace inkstone
