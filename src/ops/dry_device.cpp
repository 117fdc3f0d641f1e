#include "ops/dry_device.h"

#include <algorithm>
#include <cstring>

#include "ops/trace.h"

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

class DryDevice final : public Device {
 public:
  std::string name() const override { return "dry"; }
  std::string describe() const override { return "counts memory and work, computes nothing"; }
  DType activation_type() const override { return DType::f32; }
  Kernels& kernels() override { return kernels_; }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return std::make_shared<CountedBuffer>(use_, bytes); }
  MemoryUse memory() const override { return *use_; }
  void reset_peak() override { use_->peak = use_->current; }
  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override {
    const Tensor zeros = host_tensor(tensor.shape(), tensor.dtype());
    std::memset(zeros.data<std::byte>(), 0, zeros.bytes());
    return zeros;
  }

 private:
  Trace kernels_;
  std::shared_ptr<MemoryUse> use_ = std::make_shared<MemoryUse>();
};

}  // namespace

std::unique_ptr<Device> make_dry_device() { return std::make_unique<DryDevice>(); }

}  // namespace inkstone
