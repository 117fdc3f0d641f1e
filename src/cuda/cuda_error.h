// CUDA's status codes as Errors. Small enough for .cu files.
#pragma once
#include <cuda_runtime_api.h>
#include <string>

namespace inkstone {

/// "cuda:1": this thread's device; "cuda" where CUDA cannot tell.
std::string current_cuda_device();

/// Throws Error "device cuda:1: `what`: CUDA's words" unless the call went well, and says so where the device is lost.
void check_cuda(cudaError_t status, const char* what);

}  // namespace inkstone
