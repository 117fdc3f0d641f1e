// The kernels that every GPU can run, beside those that a newer one takes for the same calls.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "cuda/cuda_device.h"
#include "ops/device.h"
#include "ops/interceptor.h"

namespace inkstone {

/// A second device of the same GPU that has them.
class AmpereKernels {
 public:
  explicit AmpereKernels(CudaArithmetic arithmetic)
      : device_(make_cuda_device({.arithmetic = arithmetic, .ampere_kernels = true})) {}

  /// A call on tensors of `owner`.
  void run(const Call& call, std::span<Tensor> out, Device& owner) {
    owner.wait();
    call.run(device_->kernels(), out);
    device_->wait();
  }

 private:
  std::unique_ptr<Device> device_;
};

/// Has every op computed by them, on the tensors of another device.
class ByAmpereKernels final : public Interceptor {
 public:
  ByAmpereKernels(CudaArithmetic arithmetic, std::function<Device&()> owner)
      : ampere_(arithmetic), owner_(std::move(owner)) {}

 private:
  void intercept(const Call& call) override { ampere_.run(call, call.out, owner_()); }

  AmpereKernels ampere_;
  std::function<Device&()> owner_;
};

/// Runs every op by a device's own kernels, then by those, and counts the calls that gave another bit: others took
/// part.
class BesideAmpere final : public Interceptor {
 public:
  BesideAmpere(Device& device, CudaArithmetic arithmetic) : device_(device), ampere_(arithmetic) {}

  struct Count {
    int calls = 0, unlike = 0;
  };
  /// By the name of the op, of convolutions with their channels.
  const std::map<std::string, Count>& counts() const { return counts_; }

 private:
  void intercept(const Call& call) override {
    if (call.op == "linear" && call.parts[0].layer->slabs.size() > 1) return run_before_join(call);
    if (call.op == "join_qkv") return run_join(call);
    std::vector<Tensor> again = like(call.out);
    call.run(device_.kernels(), call.out);
    ampere_.run(call, again, device_);
    count(call, call.out, again);
  }

  /// A fused product waits for its join, unless something else comes before.
  void run_before_join(const Call& call) {
    apart_ = like(call.out);
    call.run(device_.kernels(), apart_);
    device_.wait();
    call.run(device_.kernels(), call.out);
  }

  /// A product that joins writes what it joins nowhere else.
  void run_join(const Call& call) {
    call.run(device_.kernels(), call.out);
    count(call, call.in, apart_);
    apart_.clear();
  }

  std::vector<Tensor> like(std::span<const Tensor> tensors) {
    std::vector<Tensor> all;
    for (const Tensor& t : tensors) all.push_back({device_.allocate(t.bytes()), 0, t.shape(), t.dtype()});
    return all;
  }

  void count(const Call& call, std::span<const Tensor> own, std::span<const Tensor> other) {
    const std::string channels =
        call.conv == nullptr ? "" : fmt::format(" {} -> {}", call.conv->in(), call.conv->out());
    Count& count = counts_[std::string(call.op) + channels];
    ++count.calls;
    if (!std::ranges::equal(own, other, [this](const Tensor& a, const Tensor& b) { return is_same(a, b); }))
      ++count.unlike;
  }

  bool is_same(const Tensor& a, const Tensor& b) {
    if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
    const Tensor here = device_.download(a), there = device_.download(b);
    return std::memcmp(here.data<void>(), there.data<void>(), here.bytes()) == 0;
  }

  Device& device_;
  AmpereKernels ampere_;
  std::map<std::string, Count> counts_;
  std::vector<Tensor> apart_;
};

}  // namespace inkstone
