// Tolerant convolutions in 8 bits: against their definition, and against f32 for what rounding costs.
#include <gmock/gmock.h>

#include "ops/cpu_under_test.h"
#include "ops/random_conv.h"
#include "reference/int8_conv.h"

namespace inkstone {
namespace {

constexpr double kLeastError = 1e-3;  // less is not 8 bits
constexpr double kMostError = 0.012;  // see cpu_int8_test.cpp

class CpuInt8ConvTest : public CpuInt8Fixture {
 protected:
  void expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual = {});
};
INKSTONE_FOR_EVERY_ISA_PAIR(CpuInt8ConvTest);

Conv2d tolerant_conv(int64_t out, int64_t in, WeightFormat format = WeightFormat::f32) {
  Conv2d conv = random_conv(out, in, format);
  conv.tolerant = true;
  return conv;
}

void CpuInt8ConvTest::expect_equal(const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const Tensor actual = cpu().conv2d(x, conv, residual);
  Tensor expected = host_tensor(actual.shape(), DType::f32);
  int8_conv2d(expected, x, conv, residual);
  // Sums under a pixel are exact; scaling and adding them round.
  EXPECT_LT(relative_l2(actual, expected), 10 * kRounding) << described(x, conv);
}

TEST_P(CpuInt8ConvTest, EveryKindOnPicturesOfEverySize) {
  for_every_kind([](int64_t out, int64_t in) { return tolerant_conv(out, in); },
                 [&](const Tensor& x, const Conv2d& conv) { expect_equal(x, conv); });
}

TEST_P(CpuInt8ConvTest, EveryTypeOfWeightsAndNumberOfChannels) {
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::f16, WeightFormat::bf16})
    for (const auto& [in, out] :
         {std::pair<int64_t, int64_t>{1, 1}, {16, 100}, {48, 3}, {130, 400}, {384, 17}, {385, 49}, {770, 5}})
      expect_equal(random_normal({1, 5, 6, in}, 1), tolerant_conv(out, in, format));
}

TEST_P(CpuInt8ConvTest, ResidualsAreAdded) {
  Conv2d conv = tolerant_conv(24, 24);
  expect_equal(random_normal({2, 9, 5, 24}, 1), conv, random_normal({2, 9, 5, 24}, 2));
  conv.upsampling = 2;
  expect_equal(random_normal({1, 3, 5, 24}, 1), conv, random_normal({1, 6, 10, 24}, 2));
}

TEST_P(CpuInt8ConvTest, WidthsOfTheVae) {
  Conv2d conv = tolerant_conv(192, 96);
  expect_equal(random_normal({1, 13, 11, 96}, 1), conv, random_normal({1, 13, 11, 192}, 2));
  conv = tolerant_conv(96, 384, WeightFormat::bf16);
  conv.upsampling = 2;
  expect_equal(random_normal({2, 7, 6, 384}, 1), conv);
}

TEST_P(CpuInt8ConvTest, RoundingCostsWhatItMust) {
  for (const int upsampling : {1, 2}) {
    Conv2d conv = tolerant_conv(40, 96);
    conv.upsampling = upsampling;
    const Tensor x = random_normal({1, 9, 9, 96}, 1);
    const double error = relative_l2(cpu().conv2d(x, conv), reference().conv2d(x, conv));
    EXPECT_GT(error, kLeastError) << upsampling;
    EXPECT_LT(error, kMostError) << upsampling;
  }
}

TEST_P(CpuInt8ConvTest, OtherConvolutionsStayExact) {
  Conv2d conv = tolerant_conv(40, 96);
  conv.tolerant = false;
  const Tensor x = random_normal({1, 9, 9, 96}, 1);
  EXPECT_LT(relative_l2(cpu().conv2d(x, conv), reference().conv2d(x, conv)), 30 * kRounding);
}

TEST_P(CpuInt8ConvTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const Conv2d conv = tolerant_conv(70, 50);
  const Tensor x = random_normal({2, 23, 31, 50}, 1);
  const auto expected = values_of(cpu().conv2d(x, conv));
  for (const int threads : {1, 5, 16}) {
    CpuUnderTest other(GetParam(), threads);
    EXPECT_EQ(values_of(other.cpu.conv2d(x, conv)), expected) << threads;
  }
}

TEST_P(CpuInt8ConvTest, APixelReachesItsNeighboursOnly) {
  const Conv2d conv = tolerant_conv(20, 12);
  const Tensor x = random_normal({1, 9, 11, 12}, 1);
  const auto before = values_of(cpu().conv2d(x, conv));
  for (const float broken : {1000.0f, NAN, INFINITY}) {
    Tensor changed = random_normal({1, 9, 11, 12}, 1);
    changed.data<float>()[(4 * 11 + 6) * 12 + 5] = broken;
    const auto after = values_of(cpu().conv2d(changed, conv));
    for (size_t i = 0; i < before.size(); ++i) {
      const size_t pixel = i / 20, row = pixel / 11, column = pixel % 11;
      const bool is_near = row >= 3 && row <= 5 && column >= 5 && column <= 7;
      EXPECT_EQ(after[i] == before[i], !is_near) << broken << " at row " << row << ", column " << column;
    }
  }
}

}  // namespace
}  // namespace inkstone
