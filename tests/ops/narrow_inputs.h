// Activations in bf16 for tests that write theirs in f32.
#pragma once
#include <memory>
#include <set>

#include "ops/device.h"
#include "ops/interceptor.h"
#include "ops/random_tensors.h"

namespace inkstone {

/// Rounds the activations of every op to bf16 where they lie, so that everyone who is told of the op computes with the
/// same numbers. Those of rank 1 are no activations: factors, times.
class RoundedInputs final : public Interceptor {
 public:
  explicit RoundedInputs(Kernels& next) : next_(next) {}

  /// Whether the op that runs reads these numbers as an activation.
  bool reads(const Tensor& t) const { return read_.contains(t.data<const void>()); }

 private:
  void intercept(const Call& call) override {
    for (const Tensor& t : call.in) {
      if (t.dtype() != DType::f32 || t.shape().rank() < 2) continue;
      for (float& x : t.span<float>()) x = to_float(to_bf16(x));
      read_.insert(t.data<const void>());
    }
    call.run(next_, call.out);
    read_.clear();
  }

  Kernels& next_;
  std::set<const void*> read_;
};

/// A device that gets those activations in bf16.
class NarrowedUploads final : public Device {
 public:
  explicit NarrowedUploads(Device& device) : device_(device) {}
  void watch_inputs(const RoundedInputs& inputs) { inputs_ = &inputs; }

  std::string name() const override { return device_.name(); }
  std::string describe() const override { return device_.describe(); }
  DType activation_type() const override { return device_.activation_type(); }
  Kernels& kernels() override { return device_.kernels(); }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return device_.allocate(bytes); }
  MemoryUse memory() const override { return device_.memory(); }
  void reset_peak() override { device_.reset_peak(); }
  Tensor upload(const Tensor& host) override {
    return device_.upload(inputs_ != nullptr && inputs_->reads(host) ? as_bf16(host) : host);
  }
  Tensor download(const Tensor& tensor) override { return device_.download(tensor); }

 private:
  Device& device_;
  const RoundedInputs* inputs_ = nullptr;
};

}  // namespace inkstone
