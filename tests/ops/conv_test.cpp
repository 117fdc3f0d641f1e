// conv2d of every device; see linear_test.cpp for the error of sums.
#include <gmock/gmock.h>

#include "ops/device_under_test.h"

namespace inkstone {
namespace {

class ConvTest : public OpsTest {
 protected:
  void expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual = {});
};
INKSTONE_ON_EVERY_DEVICE(ConvTest);

constexpr int64_t kTaps = 9;

double tolerance(int64_t in) { return (10 + 0.6 * std::sqrt(static_cast<double>(kTaps * in))) * kRounding; }

Conv2d random_conv(int64_t out, int64_t in, WeightFormat format = WeightFormat::f32) {
  const Tensor weight = random_weight(format, out, kTaps * in, 3).data;
  return {.weight = weight.reshape({out, 3, 3, in}), .bias = random_normal({out}, 4)};
}

void ConvTest::expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  EXPECT_LT(relative_l2(tested().conv2d(x, conv, residual), reference().conv2d(x, conv, residual)),
            allowed(tolerance(conv.in())))
      << x.shape().text() << " to " << conv.out() << ", stride " << conv.stride << ", upsampling " << conv.upsampling
      << (conv.padding == Padding::same ? ", same" : ", after");
}

TEST_P(ConvTest, EveryKindOnPicturesOfEverySize) {
  const Shape kPictures[] = {{1, 1, 1, 5}, {1, 1, 9, 3}, {2, 7, 1, 16}, {1, 2, 2, 33}, {3, 5, 7, 20}, {1, 30, 41, 6}};
  for (const Shape& picture : kPictures)
    for (const int stride : {1, 2})
      for (const int upsampling : {1, 2})
        for (const Padding padding : {Padding::same, Padding::after}) {
          if (picture[1] * upsampling < stride || picture[2] * upsampling < stride) continue;  // no output
          Conv2d conv = random_conv(19, picture[3]);
          conv.stride = stride;
          conv.upsampling = upsampling;
          conv.padding = padding;
          expect_equal(random_normal(picture, 1), conv);
        }
}

TEST_P(ConvTest, EveryTypeOfWeightsAndNumberOfChannels) {
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::f16, WeightFormat::bf16})
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{1, 1}, {16, 100}, {48, 3}, {100, 48}, {130, 400}})
      expect_equal(random_normal({1, 5, 6, in}, 1), random_conv(out, in, format));
}

TEST_P(ConvTest, ResidualsAreAdded) {
  Conv2d conv = random_conv(24, 24);
  expect_equal(random_normal({2, 9, 5, 24}, 1), conv, random_normal({2, 9, 5, 24}, 2));
  conv.upsampling = 2;
  expect_equal(random_normal({1, 3, 5, 24}, 1), conv, random_normal({1, 6, 10, 24}, 2));
}

TEST_P(ConvTest, WidthsOfTheVae) {
  Conv2d conv = random_conv(192, 96);
  expect_equal(random_normal({1, 13, 11, 96}, 1), conv, random_normal({1, 13, 11, 192}, 2));
  conv = random_conv(96, 384, WeightFormat::bf16);
  conv.upsampling = 2;
  expect_equal(random_normal({2, 7, 6, 384}, 1), conv);
}

TEST_P(ConvTest, BordersAreZerosOnTheRightSides) {
  Conv2d conv = random_conv(1, 1);
  conv.bias = random_normal({1}, 1, 0);
  for (float& w : conv.weight.span<float>()) w = 1;  // counts the pixels under the kernel
  Tensor ones = random_normal({1, 3, 4, 1}, 1, 0);
  for (float& x : ones.span<float>()) x = 1;
  EXPECT_THAT(values_of(tested().conv2d(ones, conv)), testing::ElementsAre(4, 6, 6, 4, 6, 9, 9, 6, 4, 6, 6, 4));
  conv.padding = Padding::after;
  EXPECT_THAT(values_of(tested().conv2d(ones, conv)), testing::ElementsAre(9, 9, 6, 3, 6, 6, 4, 2, 3, 3, 2, 1));
  conv.stride = 2;
  EXPECT_THAT(values_of(tested().conv2d(ones, conv)), testing::ElementsAre(9, 6));
}

TEST_P(ConvTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const Conv2d conv = random_conv(70, 50);
  const Tensor x = random_normal({2, 23, 31, 50}, 1);
  const auto expected = values_of(tested().conv2d(x, conv));
  for (const int threads : {1, 5, 16}) {
    DeviceUnderTest other(GetParam(), threads);
    EXPECT_EQ(values_of(other.tested.conv2d(x, conv)), expected) << threads;
  }
}

}  // namespace
}  // namespace inkstone
