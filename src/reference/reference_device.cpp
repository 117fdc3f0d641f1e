#include "reference/reference_device.h"

#include "core/host_memory.h"
#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

class ReferenceDevice final : public Device {
 public:
  std::string name() const override { return "reference"; }
  std::string describe() const override { return "the definitions of the ops in plain loops, f64 sums, one thread"; }
  DType activation_type() const override { return DType::f32; }
  Kernels& kernels() override { return kernels_; }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return memory_.allocate(bytes); }
  MemoryUse memory() const override { return {.current = memory_.current(), .peak = memory_.peak()}; }
  void reset_peak() override { memory_.reset_peak(); }
  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override { return tensor; }

 private:
  HostMemory memory_;
  ReferenceKernels kernels_;
};

}  // namespace

std::unique_ptr<Device> make_reference_device() { return std::make_unique<ReferenceDevice>(); }

}  // namespace inkstone
