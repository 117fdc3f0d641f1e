// Streams and events that end with their owner.
#pragma once
#include "cuda/cuda_error.h"

namespace inkstone {

/// Of the current device. Whatever else is wrong with the device, the last owner lets go of it.
template <class T, cudaError_t (*destroy)(T)>
class CudaHandle {
 public:
  ~CudaHandle() { destroy(handle_); }
  CudaHandle(const CudaHandle&) = delete;
  CudaHandle& operator=(const CudaHandle&) = delete;

  operator T() const { return handle_; }

 protected:
  CudaHandle() = default;

  T handle_ = nullptr;
};

class CudaStream : public CudaHandle<cudaStream_t, cudaStreamDestroy> {
 public:
  explicit CudaStream(int priority) {
    check_cuda(cudaStreamCreateWithPriority(&handle_, cudaStreamNonBlocking, priority), "making a stream");
  }
};

/// It keeps no time.
class CudaEvent : public CudaHandle<cudaEvent_t, cudaEventDestroy> {
 public:
  CudaEvent() { check_cuda(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "making an event"); }
};

}  // namespace inkstone
