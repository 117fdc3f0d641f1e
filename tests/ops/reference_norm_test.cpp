#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ReferenceNorm = ReferenceTest;

TEST_F(ReferenceNorm, RmsNormDividesByTheRootOfTheMeanSquare) {
  const Tensor x = f32({2, 2}, {3, 4, -6, 8});  // mean squares 12.5 and 50
  const Tensor y = ops_.rms_norm(x, f32({2}, {1, 10}), {.eps = 0.5f});
  EXPECT_THAT(values_of(y),
              Near({3 / std::sqrt(13.0), 40 / std::sqrt(13.0), -6 / std::sqrt(50.5), 80 / std::sqrt(50.5)}));
}

TEST_F(ReferenceNorm, RmsNormActivatesAfterTheWeight) {
  const Tensor y = ops_.rms_norm(f32({1, 2}, {3, -3}), f32({2}, {2, 2}), {.activation = Activation::silu});
  EXPECT_THAT(values_of(y), Near({2 / (1 + std::exp(-2.0)), -2 / (1 + std::exp(2.0))}));
}

TEST_F(ReferenceNorm, RmsNormOfAPictureIsPerPixel) {
  const Tensor x = random_normal({2, 3, 2, 4}, 1), weight = random_normal({4}, 2);
  const Tensor y = ops_.rms_norm(x, weight, {.eps = 1e-6f});
  EXPECT_EQ(values_of(y), values_of(ops_.rms_norm(x.reshape({12, 4}), weight, {.eps = 1e-6f})));
}

TEST_F(ReferenceNorm, RmsNormOfZerosIsZero) {
  EXPECT_THAT(values_of(ops_.rms_norm(f32({1, 2}, {0, 0}), f32({2}, {1, 1}), {.eps = 1e-12f})), Near({0, 0}));
}

TEST_F(ReferenceNorm, LayerNormUsesThePopulationVarianceAndTheSequencesVectors) {
  const Sequences sequences(std::vector<int64_t>{2, 1});
  const Tensor table = f32({4, 2}, {0, 0, 1, 2, 10, 20, 30, 40});
  const SequenceRows shift = {table, i32({0, 2}), 1, &sequences};  // rows 1 and 3
  const SequenceRows scale = {table, i32({0, 2}), 0, &sequences};  // rows 0 and 2
  const Tensor x = f32({3, 2}, {1, 3, -5, 5, 4, 0});               // means 2, 0, 2; deviations 1, 5, 2
  const Tensor y = ops_.layer_norm_modulate({{x, shift, scale}}, 0.25f).front();
  const double a = 1 / std::sqrt(1.25), b = 5 / std::sqrt(25.25), c = 2 / std::sqrt(4.25);
  EXPECT_THAT(values_of(y), Near({-a + 1, a + 2, -b + 1, b + 2, c * 11 + 30, -c * 21 + 40}));
}

TEST_F(ReferenceNorm, LayerNormTakesEachPartWithItsOwnVectors) {
  const Sequences two = Sequences::equal(2, 1), one = Sequences::equal(1, 3);
  const Tensor table = random_normal({6, 8}, 1);
  const ModulatePart first = {random_normal({2, 8}, 2), {table, i32({0, 3}), 0, &two}, {table, i32({0, 3}), 1, &two}};
  const ModulatePart second = {random_normal({3, 8}, 3), {table, i32({2}), 1, &one}, {table, i32({2}), 2, &one}};
  const auto both = ops_.layer_norm_modulate({first, second}, 1e-6f);
  EXPECT_EQ(values_of(both[0]), values_of(ops_.layer_norm_modulate({first}, 1e-6f)[0]));
  EXPECT_EQ(values_of(both[1]), values_of(ops_.layer_norm_modulate({second}, 1e-6f)[0]));
}

}  // namespace
}  // namespace inkstone
