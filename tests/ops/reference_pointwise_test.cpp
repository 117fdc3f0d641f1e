#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;

using ReferencePointwise = ReferenceTest;

TEST_F(ReferencePointwise, SwigluActivatesTheFirstHalf) {
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const Tensor x = f32({2, 4}, {1, -2, 3, 5, 0, 4, 7, -1});
  EXPECT_THAT(values_of(ops_.swiglu(x)), Near({silu(1) * 3, silu(-2) * 5, 0, -silu(4)}));
}

TEST_F(ReferencePointwise, TimestepEmbeddingHasTheValuesOfDiffusers) {
  const Tensor e = ops_.timestep_embedding(f32({2}, {1, 0}), 256);  // get_timestep_embedding
  const auto cos = e.span<const float>().subspan(0, 128), sin = e.span<const float>().subspan(128, 128);
  constexpr float kTolerance = 1e-6f;
  EXPECT_NEAR(cos[0], 0.5623790763, kTolerance);
  EXPECT_NEAR(cos[1], 0.7896147286, kTolerance);
  EXPECT_NEAR(sin[1], 0.6136029501, kTolerance);
  EXPECT_NEAR(cos[64], std::cos(10.0), kTolerance);
  EXPECT_NEAR(sin[64], std::sin(10.0), kTolerance);
  EXPECT_NEAR(sin[127], std::sin(0.1074607828), kTolerance);
  const auto at_zero = e.rows(1, 2).span<const float>();
  EXPECT_EQ(at_zero[5], 1);
  EXPECT_EQ(at_zero[128 + 5], 0);
}

TEST_F(ReferencePointwise, GuidedStepRescalesEachRowToTheNormOfTheConditional) {
  const Tensor x = f32({2, 2}, {1, 2, 3, 4}), cond = f32({2, 2}, {3, 4, 0, 2}), uncond = f32({2, 2}, {1, 0, 0, 1});
  // uncond + 3 (cond - uncond) = (7, 12) and (0, 4), of norms sqrt(193) and 4; cond's norms are 5 and 2.
  EXPECT_THAT(values_of(ops_.guided_step(x, {cond, uncond, scalar(3)}, scalar(-0.5f))),
              Near({1 - 17.5 / std::sqrt(193.0), 2 - 30 / std::sqrt(193.0), 3, 3}));
}

TEST_F(ReferencePointwise, GuidedStepWithScaleOneGoesAlongTheConditional) {
  const Tensor x = random_normal({3, 16}, 3), cond = random_normal({3, 16}, 1), by = scalar(-0.25f);
  const Tensor next = ops_.guided_step(x, {cond, random_normal({3, 16}, 2), scalar(1)}, by);
  EXPECT_LT(relative_l2(next, ops_.add_scaled(x, cond, by)), 1e-7);
}

TEST_F(ReferencePointwise, GuidedStepStaysWhereTheVelocityIsZero) {
  const Tensor x = f32({2, 2}, {5, 6, 7, 8});
  const Tensor cond = f32({2, 2}, {1, 2, 1, 0}), uncond = f32({2, 2}, {2, 4, 0, 0});  // 2 cond - uncond = 0 in row 0
  EXPECT_THAT(values_of(ops_.guided_step(x, {cond, uncond, scalar(2)}, scalar(3))), ElementsAre(5, 6, 10, 8));
}

TEST_F(ReferencePointwise, AddScaled) {
  const Tensor x = f32({2, 1, 2}, {1, 2, 3, 4}), y = f32({2, 1, 2}, {10, 20, 30, 40});
  EXPECT_THAT(values_of(ops_.add_scaled(x, y, scalar(-0.5f))), ElementsAre(-4, -8, -12, -16));
}

TEST_F(ReferencePointwise, ScaleShiftActsAlongTheLastAxis) {
  const Tensor x = f32({2, 1, 2}, {1, 2, 3, 4});
  EXPECT_THAT(values_of(ops_.scale_shift(x, f32({2}, {2, 10}), f32({2}, {1, -1}))), ElementsAre(3, 19, 7, 39));
}

TEST_F(ReferencePointwise, ConcatRowsOfViews) {
  const Tensor x = f32({3, 2}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(values_of(ops_.concat_rows({x.rows(2, 3), x.rows(0, 2), x.rows(1, 1)})), ElementsAre(5, 6, 1, 2, 3, 4));
}

TEST_F(ReferencePointwise, ToRgb8RoundsHalfToEvenAndClamps) {
  // Only x = 0 is an exact tie (127.5) in f32.
  const auto at_level = [](double level) { return static_cast<float>(level / 127.5 - 1); };
  const Tensor x = f32({9}, {-1, 1, 0, -5, 5, at_level(3.4), at_level(3.6), NAN, at_level(200)});
  const auto rgb = ops_.to_rgb8(x).span<const uint8_t>();
  EXPECT_THAT(std::vector<int>(rgb.begin(), rgb.end()), ElementsAre(0, 255, 128, 0, 255, 3, 4, 0, 200));
}

TEST_F(ReferencePointwise, FromRgb8IsInvertedByToRgb8) {
  Tensor levels = host_tensor({256}, DType::u8);
  for (int i = 0; i < 256; ++i) levels.data<uint8_t>()[i] = static_cast<uint8_t>(i);
  const Tensor x = ops_.from_rgb8(levels);
  EXPECT_EQ(x.data<float>()[0], -1);
  EXPECT_EQ(x.data<float>()[255], 1);
  EXPECT_FLOAT_EQ(x.data<float>()[51], -0.6f);
  const auto back = ops_.to_rgb8(x).span<const uint8_t>();
  for (int i = 0; i < 256; ++i) EXPECT_EQ(back[static_cast<size_t>(i)], i);
}

}  // namespace
}  // namespace inkstone
