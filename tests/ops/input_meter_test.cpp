#include "ops/input_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/ops.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InputMeterTest : public ::testing::Test {
 protected:
  static Linear layer(const std::vector<std::string>& names, int64_t in) {
    Linear all;
    for (const std::string& name : names) {
      all.slabs.push_back({random_weight(WeightFormat::f32, 4, in, 1), {}});
      all.slabs.back().name = name;
    }
    return all;
  }
  static Tensor rows(const std::vector<float>& numbers, int64_t in) {
    return host_tensor(numbers).reshape({static_cast<int64_t>(numbers.size()) / in, in});
  }

  std::unique_ptr<Device> device_ = make_reference_device();
  InputSquares squares_;
  InputMeter meter_{device_->kernels(), squares_};
  Ops ops_{*device_, meter_};
};

TEST_F(InputMeterTest, MeansAreOverAllRowsOfAllCalls) {
  const Linear a = layer({"q", "k"}, 2), b = layer({"out"}, 3);
  ops_.linear({{rows({1, 2, 3, 4}, 2), &a}, {rows({0, 5, -1}, 3), &b}});
  ops_.linear(rows({-2, 6}, 2), a);
  EXPECT_THAT(squares_.means("q"), ElementsAre(14.0f / 3, 56.0f / 3));
  EXPECT_EQ(squares_.means("k"), squares_.means("q"));
  EXPECT_THAT(squares_.means("out"), ElementsAre(0, 25, 1));
  EXPECT_THAT(squares_.means("v"), IsEmpty());
}

TEST_F(InputMeterTest, ResultsAreThoseOfTheKernelsAndLayersWithoutNamesPass) {
  const Linear named = layer({"q"}, 8), nameless = layer({""}, 8);
  const Tensor x = random_normal({5, 8}, 3);
  Ops plain(*device_);
  EXPECT_EQ(values_of(ops_.linear(x, named)), values_of(plain.linear(x, named)));
  EXPECT_EQ(values_of(ops_.linear(x, nameless)), values_of(plain.linear(x, nameless)));
  EXPECT_THAT(squares_.means(""), IsEmpty());
}

}  // namespace
}  // namespace inkstone
