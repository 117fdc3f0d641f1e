#include <gmock/gmock.h>

#include "ops/device_under_test.h"

namespace inkstone {
namespace {

class PointwiseTest : public OpsTest {};
INKSTONE_ON_EVERY_DEVICE(PointwiseTest);

// The last ones are large enough for several tasks.
const Shape kShapes[] = {{1, 1}, {1, 64}, {3, 5}, {17, 33}, {300, 96}, {1000, 64}};

Tensor scalar(float x) { return host_tensor(std::vector<float>{x}); }

TEST_P(PointwiseTest, Swiglu) {
  for (const Shape& shape : kShapes) {
    const Tensor x = random_normal({shape[0], 2 * shape[1]}, 1, 4);
    EXPECT_LT(relative_l2(tested().swiglu(x), reference().swiglu(x)), allowed(8 * kRounding, 1)) << shape.text();
  }
}

TEST_P(PointwiseTest, AddScaledAndScaleShift) {
  for (const Shape& shape : kShapes) {
    const Tensor x = random_normal(shape, 1), y = random_normal(shape, 2), factor = scalar(-0.37f);
    EXPECT_LT(relative_l2(tested().add_scaled(x, y, factor), reference().add_scaled(x, y, factor)), 2 * kRounding);
    const Tensor scale = random_normal({shape[1]}, 3), shift = random_normal({shape[1]}, 4);
    EXPECT_LT(relative_l2(tested().scale_shift(x, scale, shift), reference().scale_shift(x, scale, shift)),
              2 * kRounding);
  }
  const Tensor pictures = random_normal({2, 5, 7, 3}, 1), scale = random_normal({3}, 3), shift = random_normal({3}, 4);
  EXPECT_LT(relative_l2(tested().scale_shift(pictures, scale, shift), reference().scale_shift(pictures, scale, shift)),
            2 * kRounding);
}

TEST_P(PointwiseTest, GuidedStep) {
  for (const Shape& shape : kShapes) {
    const Tensor x = random_normal(shape, 3), zeros = random_normal(shape, 1, 0);
    for (const float scale : {0.0f, 1.0f, 4.0f, 7.5f}) {
      const Guidance guidance = {random_normal(shape, 1), random_normal(shape, 2), scalar(scale)};
      const auto error = [&](const Tensor& from, float by) {
        return relative_l2(tested().guided_step(from, guidance, scalar(by)),
                           reference().guided_step(from, guidance, scalar(by)));
      };
      EXPECT_LT(error(zeros, 1), 12 * kRounding) << "the velocity, " << shape.text() << ", scale " << scale;
      EXPECT_LT(error(x, -0.37f), 12 * kRounding) << shape.text() << ", scale " << scale;
    }
  }
}

TEST_P(PointwiseTest, GuidedStepRoundsAsGuidanceAndTheStepApart) {
  if (GetParam().narrow_inputs) GTEST_SKIP() << "the velocity would be rounded on its way into the step";
  const Shape shape = {17, 33};
  const Tensor x = random_normal(shape, 3), zeros = random_normal(shape, 1, 0);
  const Guidance guidance = {random_normal(shape, 1), random_normal(shape, 2), scalar(4)};
  const Tensor velocity = tested().guided_step(zeros, guidance, scalar(1));
  EXPECT_EQ(values_of(tested().guided_step(x, guidance, scalar(-0.37f))),
            values_of(tested().add_scaled(x, velocity, scalar(-0.37f))));
}

TEST_P(PointwiseTest, GuidedStepStaysWhereTheVelocityIsZero) {
  const Tensor x = random_normal({3, 20}, 2), cond = random_normal({3, 20}, 1), zeros = random_normal({3, 20}, 1, 0);
  const std::vector<float> stays = values_of(tested().add_scaled(x, zeros, scalar(1)));  // x, which may be rounded
  EXPECT_EQ(values_of(tested().guided_step(x, {zeros, zeros, scalar(4)}, scalar(1))), stays);
  EXPECT_EQ(values_of(tested().guided_step(x, {cond, zeros, scalar(0)}, scalar(1))), stays);
}

TEST_P(PointwiseTest, TimestepEmbedding) {
  std::vector<float> times = {0, 1, 0.02f, 0.5f, 0.999f, 1e-4f};
  for (const int64_t width : {2, 16, 256}) {
    const Tensor t = host_tensor(times);
    // Both are f64 until the end; the library's sines may differ in the last place.
    EXPECT_LT(relative_l2(tested().timestep_embedding(t, width), reference().timestep_embedding(t, width)), kRounding);
  }
  const Tensor one = tested().timestep_embedding(scalar(1), 256);  // as get_timestep_embedding of diffusers
  EXPECT_NEAR(one.data<float>()[0], 0.5623790763, kRounding);
  EXPECT_NEAR(one.data<float>()[1], 0.7896147286, kRounding);
  EXPECT_NEAR(one.data<float>()[128 + 1], 0.6136029501, kRounding);
}

TEST_P(PointwiseTest, PatchesGoThereAndBack) {
  struct Case {
    Shape latents;
    int64_t patch;
  };
  for (const auto& [shape, patch] : {Case{{1, 16, 2, 2}, 2}, Case{{2, 4, 6, 10}, 2}, Case{{3, 5, 4, 3}, 1},
                                     Case{{1, 3, 9, 6}, 3}, Case{{2, 16, 64, 48}, 2}}) {
    const Tensor latents = random_normal(shape, 1);
    const Tensor tokens = tested().patchify(latents, patch);
    EXPECT_EQ(values_of(tokens), values_of(reference().patchify(latents, patch))) << shape.text();
    const Shape grid = {shape[0], shape[2], shape[3]};
    EXPECT_EQ(values_of(tested().unpatchify(tokens, grid, patch)),
              values_of(reference().unpatchify(tokens, grid, patch)))
        << shape.text();
  }
}

TEST_P(PointwiseTest, ConcatRows) {
  const Tensor a = random_normal({3, 20}, 1), b = random_normal({1, 20}, 2), c = random_normal({900, 20}, 3);
  EXPECT_EQ(values_of(tested().concat_rows({a, b, c})), values_of(reference().concat_rows({a, b, c})));
  EXPECT_EQ(values_of(tested().concat_rows({b})), values_of(b));
  EXPECT_EQ(values_of(tested().concat_rows({c.rows(5, 9), a})), values_of(reference().concat_rows({c.rows(5, 9), a})));
}

std::vector<uint8_t> bytes_of(const Tensor& u8) {
  const auto span = u8.span<const uint8_t>();
  return {span.begin(), span.end()};
}

TEST_P(PointwiseTest, PixelsToBytes) {
  // Every level, the borders between levels, and what lies outside.
  std::vector<float> values = {-INFINITY, INFINITY, NAN, -1.5f, 1.5f, -0.0f, 1e30f, -1e30f};
  for (int i = 0; i <= 1020; ++i) values.push_back(static_cast<float>(i) / 510.0f - 1.0f);
  values.resize(values.size() / 3 * 3);
  const Tensor x = host_tensor(values).reshape({1, static_cast<int64_t>(values.size()) / 3, 1, 3});
  const auto actual = bytes_of(tested().to_rgb8(x)), expected = bytes_of(reference().to_rgb8(x));
  for (size_t i = 0; i < actual.size(); ++i) {
    // In f32 a border between two levels may fall on either side.
    const double level = 127.5 * x.data<float>()[i] + 127.5;
    const bool border = std::abs(std::abs(level - std::floor(level)) - 0.5) < 256 * kRounding;
    ASSERT_NEAR(actual[i], expected[i], border ? 1 : 0) << x.data<float>()[i];
  }
}

TEST_P(PointwiseTest, BytesToPixelsAndBack) {
  Tensor u8 = host_tensor({1, 128, 2, 3}, DType::u8);
  for (int64_t i = 0; i < u8.count(); ++i) u8.data<uint8_t>()[i] = static_cast<uint8_t>(i);
  const Tensor x = tested().from_rgb8(u8);
  EXPECT_LT(relative_l2(x, reference().from_rgb8(u8)), 4 * kRounding);
  EXPECT_EQ(bytes_of(tested().to_rgb8(x)), bytes_of(u8));
}

}  // namespace
}  // namespace inkstone
