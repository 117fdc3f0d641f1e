// The reference device's ops and tensors written out by hand.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/ops.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {

class ReferenceTest : public ::testing::Test {
 protected:
  static Tensor f32(const Shape& shape, std::vector<float> values) { return host_tensor(values).reshape(shape); }
  static Tensor i32(std::vector<int32_t> values) { return host_tensor(values); }
  static Tensor scalar(float value) { return f32({1}, {value}); }

  std::unique_ptr<Device> device_ = make_reference_device();
  Ops ops_{*device_};
};

/// Each number within f32's rounding of the expected one.
inline auto Near(const std::vector<double>& expected) {
  std::vector<::testing::Matcher<float>> each;
  for (const double x : expected)
    each.push_back(::testing::FloatNear(static_cast<float>(x), static_cast<float>(2e-7 * (1 + std::abs(x)))));
  return ::testing::ElementsAreArray(each);
}

}  // namespace inkstone
