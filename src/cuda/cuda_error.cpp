#include "cuda/cuda_error.h"

#include "core/error.h"

namespace inkstone {
namespace {

/// Whether every later call of this process fails too: CUDA's documentation says so of most of these codes, and the
/// last three are what a card gives that has failed or is gone.
bool is_lasting(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string current_cuda_device() {
  int index = 0;
  return cudaGetDevice(&index) == cudaSuccess ? fmt::format("cuda:{}", index) : "cuda";
}

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next check would see it again
  constexpr const char* kLost =
      "; the device is lost to this process, start it again; nvidia-smi and dmesg may say why";
  fail("device {}: {}: {}{}", current_cuda_device(), what, cudaGetErrorString(status), is_lasting(status) ? kLost : "");
}

}  // namespace inkstone
