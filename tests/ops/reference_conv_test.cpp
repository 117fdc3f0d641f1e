#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;

/// Pictures of one channel whose kernels have one tap, so that results are shifted pictures.
class ReferenceConv : public ReferenceTest {
 protected:
  /// Multiplies what lies `row - 1` rows below and `column - 1` columns to the right by 1.
  static Conv2d tap(int64_t row, int64_t column) {
    std::vector<float> kernel(9);
    kernel[static_cast<size_t>(row * 3 + column)] = 1;
    return {.weight = f32({1, 3, 3, 1}, kernel), .bias = f32({1}, {0})};
  }

  const Tensor picture_ = f32({1, 2, 3, 1}, {1, 2, 3, 4, 5, 6});
};

TEST_F(ReferenceConv, CorrelatesAndPadsWithZeros) {
  EXPECT_THAT(values_of(ops_.conv2d(picture_, tap(1, 1))), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(values_of(ops_.conv2d(picture_, tap(0, 1))), ElementsAre(0, 0, 0, 1, 2, 3));
  EXPECT_THAT(values_of(ops_.conv2d(picture_, tap(2, 1))), ElementsAre(4, 5, 6, 0, 0, 0));
  EXPECT_THAT(values_of(ops_.conv2d(picture_, tap(1, 0))), ElementsAre(0, 1, 2, 0, 4, 5));
  EXPECT_THAT(values_of(ops_.conv2d(picture_, tap(1, 2))), ElementsAre(2, 3, 0, 5, 6, 0));
}

TEST_F(ReferenceConv, SumsChannelsAndAddsBiasAndResidual) {
  const Tensor x = f32({1, 1, 2, 2}, {1, 10, 2, 20});  // two pixels of two channels
  std::vector<float> kernel(2 * 9 * 2);
  const auto at = [](size_t out, size_t tap, size_t in) { return (out * 9 + tap) * 2 + in; };
  kernel[at(0, 4, 0)] = 1, kernel[at(0, 4, 1)] = 2;  // the middle
  kernel[at(1, 5, 1)] = -1;                          // second channel of the right neighbour
  const Conv2d conv = {.weight = f32({2, 3, 3, 2}, kernel), .bias = f32({2}, {100, 200})};
  EXPECT_THAT(values_of(ops_.conv2d(x, conv)), ElementsAre(121, 180, 142, 200));
  EXPECT_THAT(values_of(ops_.conv2d(x, conv, f32({1, 1, 2, 2}, {1, 2, 3, 4}))), ElementsAre(122, 182, 145, 204));
}

TEST_F(ReferenceConv, StrideTakesEverySecondWindow) {
  const Tensor x = f32({1, 4, 4, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  Conv2d after = tap(0, 0);
  after.stride = 2, after.padding = Padding::after;
  EXPECT_THAT(values_of(ops_.conv2d(x, after)), ElementsAre(1, 3, 9, 11));
  Conv2d corner = tap(2, 2);  // reads the padding below and to the right
  corner.stride = 2, corner.padding = Padding::after;
  EXPECT_THAT(values_of(ops_.conv2d(x, corner)), ElementsAre(11, 0, 0, 0));
  Conv2d same = tap(0, 0);
  same.stride = 2;
  EXPECT_THAT(values_of(ops_.conv2d(x, same)), ElementsAre(0, 0, 0, 6));
}

TEST_F(ReferenceConv, UpsamplingRepeatsPixelsBeforeTheKernelSeesThem) {
  Conv2d conv = tap(1, 0);  // the left neighbour in the large picture
  conv.upsampling = 2;
  EXPECT_THAT(values_of(ops_.conv2d(f32({1, 1, 2, 1}, {1, 2}), conv)), ElementsAre(0, 1, 1, 2, 0, 1, 1, 2));
}

TEST_F(ReferenceConv, UpsamplingEqualsConvolvingTheLargePicture) {
  const Tensor small = random_normal({1, 3, 2, 5}, 1);
  Tensor large = host_tensor({1, 6, 4, 5}, DType::f32);
  for (int64_t y = 0; y < 6; ++y)
    for (int64_t x = 0; x < 4; ++x)
      for (int64_t c = 0; c < 5; ++c)
        large.data<float>()[(y * 4 + x) * 5 + c] = small.data<float>()[(y / 2 * 2 + x / 2) * 5 + c];
  Conv2d conv = {.weight = random_normal({3, 3, 3, 5}, 2), .bias = random_normal({3}, 3)};
  const Tensor expected = ops_.conv2d(large, conv);
  conv.upsampling = 2;
  EXPECT_EQ(values_of(ops_.conv2d(small, conv)), values_of(expected));
}

TEST_F(ReferenceConv, PicturesOfABatchDoNotTouch) {
  const Conv2d conv = {.weight = random_normal({3, 3, 3, 2}, 1), .bias = random_normal({3}, 2)};
  const Tensor x = random_normal({2, 3, 4, 2}, 3);
  const Tensor both = ops_.conv2d(x, conv);
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_EQ(values_of(both.rows(i, i + 1)), values_of(ops_.conv2d(x.rows(i, i + 1), conv))) << i;
}

TEST_F(ReferenceConv, WidensNarrowWeights) {
  const Tensor x = random_normal({1, 3, 3, 2}, 1), bias = random_normal({2}, 2);
  const Tensor weight = as_bf16(random_normal({2, 3, 3, 2}, 3));
  const Tensor half = as_f16(to_f32(weight));
  const Conv2d narrow = {.weight = weight, .bias = bias}, wide = {.weight = to_f32(weight), .bias = bias};
  EXPECT_EQ(values_of(ops_.conv2d(x, narrow)), values_of(ops_.conv2d(x, wide)));
  const Conv2d f16 = {.weight = half, .bias = bias}, f16_wide = {.weight = to_f32(half), .bias = bias};
  EXPECT_EQ(values_of(ops_.conv2d(x, f16)), values_of(ops_.conv2d(x, f16_wide)));
}

}  // namespace
}  // namespace inkstone
