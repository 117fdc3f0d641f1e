// Memory that each worker keeps for its tiles, so that a task costs no allocation.
#pragma once
#include <vector>

#include "core/tensor.h"

namespace inkstone {

class WorkerScratch {
 public:
  explicit WorkerScratch(int workers) : buffers_(static_cast<size_t>(workers)) {}

  /// At least `count` floats aligned to 64 bytes, of unknown contents; what the same worker got before is void.
  float* floats(int worker, int64_t count) {
    Tensor& buffer = buffers_[static_cast<size_t>(worker)];
    if (!buffer || buffer.count() < count) buffer = host_tensor({count}, DType::f32);
    return buffer.data<float>();
  }

 private:
  std::vector<Tensor> buffers_;
};

}  // namespace inkstone
