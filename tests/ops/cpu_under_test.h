// The cpu's kernels with a chosen instruction set and number of threads, next to the definitions of the ops.
#pragma once
#include <gtest/gtest.h>

#include "cpu/cpu_kernels.h"
#include "ops/device_under_test.h"

namespace inkstone {

/// What tolerant layers multiply.
enum class Products : uint8_t { f32, int8 };

class CpuUnderTest {
 public:
  /// `half`: what tolerant linear layers multiply instead; null: as `products` say.
  explicit CpuUnderTest(Isa isa, int threads = 2, Products products = Products::f32, const HalfOps* half = nullptr)
      : pool_(threads),
        kernels_(pool_, vector_ops(isa), products == Products::int8 ? &int8_ops(isa) : nullptr, 0, half),
        cpu(*device_, kernels_),
        reference(*device_) {}

 private:
  std::unique_ptr<Device> device_ = make_reference_device();  // both read host memory
  ThreadPool pool_;
  CpuKernels kernels_;

 public:
  Ops cpu;
  Ops reference;
};

/// Tolerant layers in 8 bits, of an instruction set that this processor has.
class CpuInt8Fixture : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "this processor lacks it";
    device = std::make_unique<CpuUnderTest>(GetParam(), 2, Products::int8);
  }
  Ops& cpu() { return device->cpu; }
  Ops& reference() { return device->reference; }

  std::unique_ptr<CpuUnderTest> device;
};

#define INKSTONE_FOR_EVERY_ISA(suite)                                                                       \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::Values(Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512), \
                           [](const auto& instance) { return name_of(instance.param); })

}  // namespace inkstone
