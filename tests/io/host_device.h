// A device for tests that only load.
#pragma once
#include "core/error.h"
#include "ops/device.h"

namespace inkstone {

/// Reads host memory, computes nothing.
class HostDevice : public Device {
 public:
  std::string name() const override { return "host"; }
  std::string describe() const override { return "host"; }
  DType activation_type() const override { return DType::f32; }
  Kernels& kernels() override { fail("no kernels"); }
  std::shared_ptr<Buffer> allocate(size_t bytes) override {
    return host_tensor({static_cast<int64_t>(bytes)}, DType::u8).buffer();
  }
  MemoryUse memory() const override { return {}; }
  void reset_peak() override {}
  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override { return tensor; }
};

}  // namespace inkstone
