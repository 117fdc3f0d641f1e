// conv2d of every device; see linear_test.cpp for the error of sums.
#include <gmock/gmock.h>

#include "ops/device_under_test.h"
#include "ops/random_conv.h"

namespace inkstone {
namespace {

class ConvTest : public OpsTest {
 protected:
  void expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual = {});
};
INKSTONE_ON_EVERY_DEVICE(ConvTest);

double tolerance(int64_t in) { return (10 + 0.6 * std::sqrt(static_cast<double>(kTaps * in))) * kRounding; }

void ConvTest::expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  EXPECT_LT(relative_l2(tested().conv2d(x, conv, residual), reference().conv2d(x, conv, residual)),
            allowed(tolerance(conv.in())))
      << described(x, conv);
}

TEST_P(ConvTest, EveryKindOnPicturesOfEverySize) {
  for_every_kind([](int64_t out, int64_t in) { return random_conv(out, in); },
                 [&](const Tensor& x, const Conv2d& conv) { expect_equal(x, conv); });
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

/// A GPU takes pictures in tiles of 8x32 pixels, more of them than it has processors.
TEST_P(ConvTest, PicturesOfManyTiles) {
  if (GetParam().isa) GTEST_SKIP() << "the processor knows no such tiles";
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{64, 68}, {96, 96}, {160, 192}}) {
    const int64_t side = out == 68 ? 150 : 35;
    expect_equal(random_normal({2, 17, 33, in}, 1), random_conv(out, in), random_normal({2, 17, 33, out}, 2));
    expect_equal(random_normal({1, side, side + 1, in}, 1), random_conv(out, in, WeightFormat::bf16));
    Conv2d doubling = random_conv(out, in);
    doubling.upsampling = 2;
    expect_equal(random_normal({2, 9, 19, in}, 1), doubling, random_normal({2, 18, 38, out}, 2));
  }
}

/// Small pictures, whose tiles are mostly empty: many tiles for each processor of a GPU, which take turns there.
TEST_P(ConvTest, ManySmallPictures) {
  if (GetParam().isa) GTEST_SKIP() << "the processor knows no tiles";
  constexpr int64_t kPictures = 1500;
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{96, 96}, {64, 92}, {96, 3}, {160, 8}}) {
    Conv2d conv = random_conv(out, in);
    expect_equal(random_normal({kPictures, 1, 2, in}, 1), conv, random_normal({kPictures, 1, 2, out}, 2));
    conv.norm = random_normal({out}, 5);
    conv.norm_options = {.eps = 0.25f, .activation = Activation::silu};
    expect_equal(random_normal({kPictures, 2, 1, in}, 1), conv);
  }
  Conv2d doubling = random_conv(96, 192);
  doubling.upsampling = 2;
  expect_equal(random_normal({kPictures, 1, 1, 192}, 1), doubling);
  expect_equal(random_normal({2, 40, 37, 192}, 1), doubling, random_normal({2, 80, 74, 96}, 2));
}

TEST_P(ConvTest, FewOutputs) {
  for (const int64_t in : {64, 96, 160})
    for (const int64_t out : {1, 3, 8}) {
      expect_equal(random_normal({2, 17, 33, in}, 1), random_conv(out, in));
      expect_equal(random_normal({1, 3, 5, in}, 1), random_conv(out, in), random_normal({1, 3, 5, out}, 2));
      Conv2d doubling = random_conv(out, in);
      doubling.upsampling = 2;
      expect_equal(random_normal({1, 9, 19, in}, 1), doubling);
    }
}

/// Some kernels have all channels of a pixel together and norm them before they write; for others a norm comes behind.
TEST_P(ConvTest, ResultsAreNormed) {
  for (const auto& [in, out] :
       {std::pair<int64_t, int64_t>{64, 68}, {96, 96}, {64, 192}, {192, 384}, {96, 3}, {24, 48}, {3, 5}}) {
    Conv2d conv = random_conv(out, in);
    conv.norm = random_normal({out}, 5);
    for (const Activation activation : {Activation::silu, Activation::none}) {
      conv.norm_options = {.eps = 0.25f, .activation = activation};
      expect_equal(random_normal({2, 17, 33, in}, 1), conv);
    }
    expect_equal(random_normal({1, 18, 9, in}, 1), conv, random_normal({1, 18, 9, out}, 2));
  }
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
