// What a device's workers keep from call to call, so that none costs an allocation: each its memory for tiles, all of
// them memory that they share, and how work was cut.
#pragma once
#include <limits>
#include <memory>
#include <vector>

#include "core/host_memory.h"
#include "cpu/tile_plan.h"

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

  /// At least `bytes` for one call of all workers, aligned to 64 bytes, of unknown contents; what the call before got
  /// is void. The plan of memory has counted them.
  std::byte* shared(size_t bytes) {
    if (shared_ == nullptr || shared_->bytes < bytes) {
      release_shared();
      shared_ = HostMemory(std::numeric_limits<size_t>::max()).allocate(bytes);
    }
    return static_cast<std::byte*>(shared_->data);
  }
  size_t shared_bytes() const { return shared_ == nullptr ? 0 : shared_->bytes; }
  void release_shared() { shared_ = nullptr; }

  TilePlans& plans() { return plans_; }

 private:
  std::vector<Tensor> buffers_;
  std::shared_ptr<Buffer> shared_;
  TilePlans plans_;
};

}  // namespace inkstone
