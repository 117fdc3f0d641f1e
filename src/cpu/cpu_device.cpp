#include "cpu/cpu_device.h"

#include "core/host_memory.h"
#include "core/option_error.h"
#include "cpu/cpu_kernels.h"

namespace inkstone {
namespace {

size_t limit_of(const CpuOptions& options) {
  return options.memory_limit == 0 ? available_memory() : options.memory_limit;
}

/// What was taken, and what it was taken for.
std::string text_of(const HalfChoice& half) {
  std::string text =
      half.ops == nullptr ? ", f32 instead of 16-bit products" : fmt::format(", 16-bit products in {}", name_of(half));
  if (half.rates.f32 == 0) return text;
  const auto rate = [](double multiply_adds) {
    return multiply_adds == 0 ? "none" : fmt::format("{:.0f}", 2 * multiply_adds / 1e9);
  };
  return text + fmt::format(" (a core's GFLOP/s: f32 {}, fp16 {}, bf16 {})", rate(half.rates.f32),
                            rate(half.rates.fp16), rate(half.rates.bf16));
}

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, const CpuOptions& options)
      : memory_(options.pool ? options.pool : std::make_shared<HostMemory>(limit_of(options))),
        pool_(threads),
        vector_(options.isa ? vector_ops(*options.isa) : vector_ops()),
        int8_(options.int8 ? &int8_ops(vector_.isa) : nullptr),
        half_(options.half),
        kernels_(pool_, vector_, int8_, options.keep_rounded, half_ ? half_->ops : nullptr) {}

  std::string name() const override { return "cpu"; }
  std::string describe() const override {
    return fmt::format("cpu: {} threads, {}{}{}", pool_.threads(), name_of(vector_.isa),
                       int8_ == nullptr ? "" : fmt::format(", 8-bit products with {}", int8_->name),
                       half_ ? text_of(*half_) : "");
  }
  DType activation_type() const override { return DType::f32; }
  Kernels& kernels() override { return kernels_; }

  std::shared_ptr<Buffer> allocate(size_t bytes) override { return memory_->allocate(bytes); }
  MemoryUse memory() const override {
    const size_t kept = kernels_.kept_bytes();
    return {memory_->current() + kept, memory_->peak() + kept + kernels_.shared_bytes()};
  }
  size_t step_bytes(std::span<const LinearPart> parts) const override { return kernels_.step_bytes(parts); }
  size_t conv_bytes(const Tensor& x, const Conv2d& conv) const override { return kernels_.conv_bytes(x.shape(), conv); }
  size_t attention_bytes(const Qkv& in) const override { return kernels_.attention_bytes(in); }
  Kept kept_of(std::span<const Linear* const> layers, const KeepRoom& room) const override {
    return kernels_.kept_of(layers, room);
  }
  size_t kept_bytes() const override { return kernels_.kept_bytes(); }
  void keep_at_most(size_t bytes) override { kernels_.keep_at_most(bytes); }
  void reset_peak() override { memory_->reset_peak(); }

  void watch(std::stop_token stop) override { pool_.watch(std::move(stop)); }

  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override { return tensor; }

 private:
  std::shared_ptr<HostMemory> memory_;
  ThreadPool pool_;
  const VectorOps& vector_;
  const Int8Ops* int8_;
  std::optional<HalfChoice> half_;
  CpuKernels kernels_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options) {
  check_option(options.threads >= 0, "threads: {} given, at least 1 is needed (0 for all)", options.threads);
  return std::make_unique<CpuDevice>(options.threads == 0 ? usable_processors() : options.threads, options);
}

}  // namespace inkstone
