// Tests that compare one stage of the model with diffusers: on every device, for every model and way to hold weights.
#pragma once
#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"
#include "expected.h"
#include "io/weight_loader.h"
#include "model/config.h"
#include "ops/ops.h"
#include "reference/reference_device.h"
#include "why_no_fp8.h"

namespace inkstone {

inline constexpr const char* kDevices[] = {"reference", "cpu", "cuda", "cuda_bf16"};

inline bool is_narrow(const std::string& device) { return device.starts_with("cuda_"); }

/// What a device's arithmetic allows a stage: `exact` in f32, `narrow` with bf16 operands.
inline double tolerance_of(const std::string& device, double exact, double narrow = kNarrowStageTolerance) {
  if (device.starts_with("cuda_fp8")) return kFp8StageTolerance;
  if (device == "cuda_int8") return kInt8StageTolerance;
  return is_narrow(device) ? narrow : exact;
}

inline CudaArithmetic arithmetic_of(const std::string& cuda) {
  if (cuda == "cuda_fp8") return CudaArithmetic::fp8;
  if (cuda == "cuda_fp8_all") return CudaArithmetic::fp8_all;
  if (cuda == "cuda_int8") return CudaArithmetic::int8;
  return is_narrow(cuda) ? CudaArithmetic::bf16 : CudaArithmetic::f32;
}

/// The reference stands in where there is no GPU, so that a test's members exist; SetUp skips it.
inline std::unique_ptr<Device> make_device(const std::string& name) {
  if (name == "cpu") return make_cpu_device({.threads = 2});
  if (!name.starts_with("cuda") || !why_no_cuda().empty()) return make_reference_device();
  if (name.starts_with("cuda_fp8") && !why_no_fp8().empty()) return make_reference_device();
  return make_cuda_device({.arithmetic = arithmetic_of(name)});
}

class OnDevice {
 protected:
  explicit OnDevice(const std::string& device) : device_(make_device(device)), ops_(*device_) {}

  static void skip_without(const std::string& device) {
    if (device.starts_with("cuda") && !why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
    if (device.starts_with("cuda_fp8") && !why_no_fp8().empty()) GTEST_SKIP() << why_no_fp8();
  }

  std::unique_ptr<Device> device_;
  Ops ops_;
};

/// A test of device independent facts: the parameter names the device.
class DeviceTest : public ::testing::TestWithParam<const char*>, protected OnDevice {
 protected:
  DeviceTest() : OnDevice(GetParam()) {}
  void SetUp() override { skip_without(GetParam()); }

  static double tolerance(double exact) { return tolerance_of(GetParam(), exact); }
};

struct ParityCase {
  const char* device;
  const char* model;
  bool widened;  ///< weights held in f32 instead of as stored
};

inline std::string name_of(const ParityCase& c) {
  return std::string(c.device) + "_" + c.model + (c.widened ? "_f32" : "");
}

class ParityTest : public ::testing::TestWithParam<ParityCase>, protected OnDevice {
 protected:
  ParityTest() : OnDevice(GetParam().device), expected_(GetParam().model) {}
  void SetUp() override { skip_without(GetParam().device); }

  Checkpoint checkpoint(Component component) const {
    return open_checkpoint(test_model(GetParam().model) / name_of(component), component);
  }
  HeldType held() const { return GetParam().widened ? HeldType(DType::f32) : std::nullopt; }

  Tensor upload(const std::string& expected_name) { return ops_.upload(expected_[expected_name]); }

  void expect_equal(const Tensor& got, const Tensor& expected, double narrow_tolerance = kNarrowStageTolerance) {
    ASSERT_EQ(got.count(), expected.count());
    errors_.expect_within(relative_error(ops_.download(got), expected),
                          tolerance_of(GetParam().device, kStageTolerance, narrow_tolerance));
  }
  void expect_equal(const Tensor& got, const std::string& expected_name) {
    SCOPED_TRACE(expected_name);
    expect_equal(got, expected_[expected_name]);
  }

  Expected expected_;

 private:
  ErrorLog errors_;
};

// random_a is stored in f32 (transformer f16), random_b in bf16, random_mlx in 4 and 8 bits and bf16.
inline const std::vector<ParityCase>& parity_cases() {
  static const std::vector<ParityCase> cases = [] {
    std::vector<ParityCase> all;
    for (const char* device : kDevices)
      for (const char* model : {"random_a", "random_b", "random_mlx"})
        for (const bool widened : {false, true}) all.push_back({device, model, widened});
    return all;
  }();
  return cases;
}

#define INKSTONE_ON_ALL_MODELS(Suite)                                       \
  INSTANTIATE_TEST_SUITE_P(All, Suite, ::testing::ValuesIn(parity_cases()), \
                           [](const auto& test) { return name_of(test.param); })

// Widths of random_a divide by 16, those of random_b do not.
inline constexpr ParityCase kRoundedCases[] = {{"cuda_fp8", "random_a", false},
                                               {"cuda_fp8", "random_b", false},
                                               {"cuda_int8", "random_a", false},
                                               {"cuda_int8", "random_b", false}};
#define INKSTONE_ON_ROUNDED(Suite)                                             \
  INSTANTIATE_TEST_SUITE_P(Rounded, Suite, ::testing::ValuesIn(kRoundedCases), \
                           [](const auto& test) { return name_of(test.param); })

#define INKSTONE_ON_ALL_DEVICES(Suite)                                \
  INSTANTIATE_TEST_SUITE_P(All, Suite, ::testing::ValuesIn(kDevices), \
                           [](const auto& test) { return std::string(test.param); })

}  // namespace inkstone
