#include "ops/dry_device.h"

#include <algorithm>
#include <cstring>

#include "ops/interceptor.h"

namespace inkstone {
namespace {

struct CountedBuffer final : Buffer {
  CountedBuffer(std::shared_ptr<MemoryUse> total, size_t n) : Buffer(nullptr, n), use(std::move(total)) {
    use->current += n;
    use->peak = std::max(use->peak, use->current);
  }
  ~CountedBuffer() override { use->current -= bytes; }

  std::shared_ptr<MemoryUse> use;
};

/// Shapes are checked before, in Ops.
class NoKernels final : public Interceptor {
  void intercept(const Call&) override {}
};

class DryDevice final : public Device {
 public:
  DryDevice(std::shared_ptr<HostMemory> pool, DType narrow) : pool_(std::move(pool)), narrow_(narrow) {}

  std::string name() const override { return "dry"; }
  std::string describe() const override { return "counts memory and work, computes nothing"; }
  DType activation_type() const override { return DType::f32; }
  DType narrow_type() const override { return narrow_; }
  Kernels& kernels() override { return kernels_; }
  std::shared_ptr<Buffer> allocate(size_t bytes) override {
    if (pool_) return pool_->allocate(bytes);
    return std::make_shared<CountedBuffer>(use_, bytes);
  }
  MemoryUse memory() const override { return pool_ ? MemoryUse{pool_->current(), pool_->peak()} : *use_; }
  void reset_peak() override {
    if (pool_) pool_->reset_peak();
    use_->peak = use_->current;
  }
  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override {
    const Tensor zeros = host_tensor(tensor.shape(), tensor.dtype());
    std::memset(zeros.data<std::byte>(), 0, zeros.bytes());
    return zeros;
  }

 private:
  NoKernels kernels_;
  std::shared_ptr<HostMemory> pool_;
  DType narrow_;
  std::shared_ptr<MemoryUse> use_ = std::make_shared<MemoryUse>();
};

}  // namespace

std::unique_ptr<Device> make_dry_device() { return make_dry_device(nullptr); }

std::unique_ptr<Device> make_dry_device(std::shared_ptr<HostMemory> pool, DType narrow) {
  return std::make_unique<DryDevice>(std::move(pool), narrow);
}

}  // namespace inkstone
