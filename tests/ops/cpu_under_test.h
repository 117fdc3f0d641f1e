// The cpu's kernels with a chosen instruction set and number of threads, next to the definitions of the ops.
#pragma once
#include <gtest/gtest.h>

#include "cpu/cpu_kernels.h"
#include "ops/device_under_test.h"

namespace inkstone {

/// Instruction sets of the vectors and, where they may be in 8 bits, of the products.
struct IsaPair {
  const char* name = "";
  Isa vectors = Isa::scalar;
  Isa products = Isa::scalar;

  const VectorOps& vector() const { return vector_ops(vectors); }
  const Int8Ops& int8() const { return int8_ops(products); }
};

class CpuUnderTest {
 public:
  /// Exact, or with tolerant linear layers in 16 bits.
  explicit CpuUnderTest(Isa isa, int threads = 2, const HalfOps* half = nullptr)
      : CpuUnderTest(vector_ops(isa), nullptr, threads, half) {}

  /// With tolerant layers in 8 bits.
  explicit CpuUnderTest(const IsaPair& isas, int threads = 2)
      : CpuUnderTest(isas.vector(), &isas.int8(), threads, nullptr) {}

 private:
  CpuUnderTest(const VectorOps& vector, const Int8Ops* int8, int threads, const HalfOps* half)
      : pool_(threads), kernels_(pool_, vector, int8, 0, half), cpu(*device_, kernels_), reference(*device_) {}

  std::unique_ptr<Device> device_ = make_reference_device();  // both read host memory
  ThreadPool pool_;
  CpuKernels kernels_;

 public:
  Ops cpu;
  Ops reference;
};

/// Tolerant layers in 8 bits, of instruction sets that this processor has.
class CpuInt8Fixture : public testing::TestWithParam<IsaPair> {
 protected:
  void SetUp() override {
    if (!supports(GetParam().vectors)) GTEST_SKIP() << "this processor lacks it";
    device = std::make_unique<CpuUnderTest>(GetParam());
  }
  Ops& cpu() { return device->cpu; }
  Ops& reference() { return device->reference; }

  std::unique_ptr<CpuUnderTest> device;
};

#define INKSTONE_FOR_EVERY_ISA(suite)                                                                       \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::Values(Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512), \
                           [](const auto& instance) { return name_of(instance.param); })

/// The last is what processors with AVX-512 but without VNNI run, of which tests have none.
inline constexpr IsaPair kIsaPairs[] = {{"scalar", Isa::scalar, Isa::scalar},
                                        {"avx2", Isa::avx2, Isa::avx2},
                                        {"avx_vnni", Isa::avx_vnni, Isa::avx_vnni},
                                        {"avx512", Isa::avx512, Isa::avx512},
                                        {"avx512_without_vnni", Isa::avx512, Isa::avx2}};

inline void PrintTo(const IsaPair& isas, std::ostream* out) { *out << isas.name; }

#define INKSTONE_FOR_EVERY_ISA_PAIR(suite)                           \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(kIsaPairs), \
                           [](const auto& instance) { return std::string(instance.param.name); })

}  // namespace inkstone
