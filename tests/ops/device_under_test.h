// The kernels of a device next to the definitions of the ops, both on host tensors.
#pragma once
#include <gtest/gtest.h>
#include <optional>

#include "cpu/cpu_kernels.h"
#include "cuda/cuda_device.h"
#include "ops/host_bridge.h"
#include "ops/narrow_inputs.h"
#include "ops/ops.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {

/// Half the distance between 1 and the next f32: what one rounding may cost.
inline constexpr double kRounding = 0x1p-24;
/// The same for bf16.
inline constexpr double kNarrowRounding = 0x1p-8;

/// Which kernels are tested: the cpu's with an instruction set, or those of a cuda device with an arithmetic.
struct Subject {
  const char* name;
  std::optional<Isa> isa = std::nullopt;
  CudaArithmetic arithmetic = CudaArithmetic::f32;
  bool narrow_inputs = false;   ///< activations are rounded to bf16, for the reference too
  bool ampere_kernels = false;  ///< those of a cuda device without Hopper's instructions

  /// Why this machine cannot run them; empty if it can.
  std::string obstacle() const {
    if (isa) return supports(*isa) ? "" : "this processor lacks it";
    return why_no_cuda();
  }
  bool narrow() const { return !isa && arithmetic == CudaArithmetic::bf16; }
};
inline constexpr Subject kSubjects[] = {{"scalar", Isa::scalar},
                                        {"avx2", Isa::avx2},
                                        {"avx512", Isa::avx512},
                                        {"cuda"},
                                        {"cuda_bf16", std::nullopt, CudaArithmetic::bf16},
                                        {"cuda_from_bf16", std::nullopt, CudaArithmetic::bf16, true},
                                        {"cuda_of_ampere", std::nullopt, CudaArithmetic::bf16, false, true}};

class DeviceUnderTest {
 public:
  /// `threads`: of the cpu.
  explicit DeviceUnderTest(const Subject& subject, int threads = 2)
      : threads_(threads),
        kernels_(kernels(subject)),
        tested(*host_, subject.narrow_inputs ? static_cast<Kernels&>(rounded_inputs_) : *kernels_),
        reference(*host_,
                  subject.narrow_inputs ? static_cast<Kernels&>(rounded_inputs_of_reference_) : host_->kernels()) {
    if (narrowed_) narrowed_->watch_inputs(rounded_inputs_);
  }

 private:
  std::unique_ptr<Kernels> kernels(const Subject& subject) {
    if (subject.isa) return std::make_unique<CpuKernels>(threads_, vector_ops(*subject.isa));
    cuda_ = make_cuda_device({.arithmetic = subject.arithmetic, .ampere_kernels = subject.ampere_kernels});
    if (subject.narrow_inputs) narrowed_.emplace(*cuda_);
    return std::make_unique<HostBridge>(narrowed_ ? static_cast<Device&>(*narrowed_) : *cuda_);
  }

  std::unique_ptr<Device> host_ = make_reference_device();
  std::unique_ptr<Device> cuda_;
  std::optional<NarrowedUploads> narrowed_;
  ThreadPool threads_;
  std::unique_ptr<Kernels> kernels_;
  RoundedInputs rounded_inputs_{*kernels_}, rounded_inputs_of_reference_{host_->kernels()};

 public:
  Ops tested;
  Ops reference;
};

/// Runs once for everything that this machine can run.
class OpsTest : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (const std::string obstacle = GetParam().obstacle(); !obstacle.empty()) GTEST_SKIP() << obstacle;
    device = std::make_unique<DeviceUnderTest>(GetParam());
  }
  Ops& tested() { return device->tested; }
  Ops& reference() { return device->reference; }

  /// A tolerance for f32, or with bf16 operands and results one of so many roundings to bf16 more.
  static double allowed(double tolerance, double narrow_roundings = 2) {
    return tolerance + (GetParam().narrow() ? narrow_roundings * kNarrowRounding : 0);
  }

  std::unique_ptr<DeviceUnderTest> device;
};

inline void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }

#define INKSTONE_ON_EVERY_DEVICE(suite)                             \
  INSTANTIATE_TEST_SUITE_P(On, suite, testing::ValuesIn(kSubjects), \
                           [](const auto& instance) { return std::string(instance.param.name); })

}  // namespace inkstone
