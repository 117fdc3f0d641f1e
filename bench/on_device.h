// The device that benchmarks of ops run on: the cpu, or with INKSTONE_DEVICE=cuda the first GPU, in bf16.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "bandwidth.h"
#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"
#include "engine/device_peak.h"
#include "ops/repeated.h"
#include "report.h"

namespace inkstone {

inline bool on_gpu() {
  const char* const name = std::getenv("INKSTONE_DEVICE");
  if (name == nullptr) return false;
  check(std::string_view(name) == "cpu" || std::string_view(name) == "cuda", "INKSTONE_DEVICE {}: cpu or cuda", name);
  return std::string_view(name) == "cuda";
}

class BenchDevice {
 public:
  /// `arithmetic`: on a GPU. Error if this one lacks it.
  explicit BenchDevice(CudaArithmetic arithmetic = CudaArithmetic::bf16) : device_(made(arithmetic)), ops_(*device_) {}

  Device& device() { return *device_; }
  Ops& ops() { return ops_; }

  Tensor upload(const Tensor& host) { return device_->upload(host); }
  /// f32 numbers as products read and write them.
  Tensor operand(const Tensor& host) { return upload(device_->narrow_type() == DType::bf16 ? as_bf16(host) : host); }

  /// Operations a second that the processors, or a large product, reach.
  double measure_peak() {
    if (!on_gpu()) return measure_f32_peak(usable_processors());
    if (!product_) product_.emplace(*device_, RandomFormat::bf16, usable_processors());
    return product_->measure(ops_);
  }
  double measure_copy() { return on_gpu() ? measure_copy_peak(*device_, ops_) : measure_copy_bandwidth(); }

  /// Times `op`, which gives a tensor. On a GPU kInARow calls are recorded once and replayed, and the time is the
  /// clock's until the last is done: what the host does for a call is not in it. All calls read the same tensors, so
  /// that what fits the second cache stays there.
  template <class Op>
  void time(benchmark::State& state, const Op& op) {
    if (!on_gpu()) {
      for (auto _ : state) benchmark::DoNotOptimize(op());
      return;
    }
    const Tensor nothing = upload(host_tensor(std::vector<float>{0}));
    Repeated calls(
        ops_,
        [&](std::span<const Tensor>) {
          for (int i = 1; i < kInARow; ++i) op();
          return op();
        },
        kManyTimes);
    for (int i = 0; i < kUntilReplayed; ++i) calls({nothing});
    device_->wait();
    while (state.KeepRunningBatch(kInARow)) {
      calls({nothing});
      device_->wait();
    }
  }

  /// The same beside the peak.
  template <class Op>
  void time_product(benchmark::State& state, double flop, const Op& op) {
    const double peak = measure_peak();
    time(state, op);
    report(state, flop, peak, [&](int) { return measure_peak(); });
  }

 private:
  static std::unique_ptr<Device> made(CudaArithmetic arithmetic) {
    if (!on_gpu()) return make_cpu_device();
    if (const std::string reason = why_no_cuda(); !reason.empty()) {
      std::fprintf(stderr, "INKSTONE_DEVICE=cuda: %s\n", reason.c_str());
      std::exit(EXIT_FAILURE);
    }
    return make_cuda_device({.arithmetic = arithmetic});
  }

  static constexpr int kInARow = 20, kUntilReplayed = 3;
  static constexpr int64_t kManyTimes = int64_t{1} << 40;

  std::unique_ptr<Device> device_;
  Ops ops_;
  std::optional<ProductPeak> product_;
};

}  // namespace inkstone
