#include <gmock/gmock.h>

#include "ops/device_under_test.h"

namespace inkstone {
namespace {

class NormTest : public OpsTest {};
INKSTONE_ON_EVERY_DEVICE(NormTest);

const Shape kShapes[] = {{1, 1}, {1, 3584}, {3, 20}, {17, 33}, {300, 96}, {5, 3072}, {1000, 64}, {2, 5, 7, 24}};

TEST_P(NormTest, RmsNormEqualsItsDefinition) {
  for (const Shape& shape : kShapes) {
    const Tensor x = random_normal(shape, 1, 5), weight = random_normal({shape[-1]}, 2);
    for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh}) {
      const NormOptions options = {.eps = 1e-6f, .activation = activation};
      // Six roundings, the sum's share, and a few ulp of the activation.
      EXPECT_LT(relative_l2(tested().rms_norm(x, weight, options), reference().rms_norm(x, weight, options)),
                allowed(12 * kRounding, 1))
          << shape.text();
    }
  }
}

TEST_P(NormTest, RmsNormHonoursEps) {
  const Tensor x = random_normal({4, 40}, 1, 1e-3f), weight = random_normal({40}, 2);
  for (const float eps : {0.0f, 1e-6f, 1e-2f}) {
    const NormOptions options = {.eps = eps};
    EXPECT_LT(relative_l2(tested().rms_norm(x, weight, options), reference().rms_norm(x, weight, options)),
              allowed(12 * kRounding, 1));
  }
  Tensor zeros = random_normal({2, 40}, 1, 0);
  EXPECT_THAT(values_of(tested().rms_norm(zeros, weight, {.eps = 1e-6f})), testing::Each(0.0f));
}

/// Streams with lengths[stream][sequence] and a table of vectors for each.
struct Modulation {
  explicit Modulation(const std::vector<std::vector<int64_t>>& lengths, int64_t d, float mean) {
    for (const auto& l : lengths) sequences.emplace_back(l);
    constexpr int64_t kRows = 24;
    for (const Sequences& s : sequences) {
      const uint64_t seed = 10 * parts.size();
      Tensor x = random_normal({s.rows(), d}, seed);
      for (float& v : x.span<float>()) v += mean;
      const Tensor table = random_normal({kRows, d}, seed + 1);
      const Tensor row = random_indices(s.count(), kRows - 6, seed + 2);
      parts.push_back({.x = x, .shift = {table, row, 3, &s}, .scale = {table, row, 5, &s}});
    }
  }

  std::vector<Sequences> sequences;
  std::vector<ModulatePart> parts;
};

TEST_P(NormTest, LayerNormModulateEqualsItsDefinition) {
  const std::vector<std::vector<int64_t>> kStreams[] = {
      {{1}}, {{40, 3}, {256, 256}}, {{0, 5, 1}, {2, 0, 7}}, {{700, 1, 1, 300}}};
  for (const auto& lengths : kStreams) {
    for (const int64_t d : {1, 20, 192, 1044, 3072}) {
      const Modulation m(lengths, d, 0);
      const auto actual = tested().layer_norm_modulate(m.parts, 1e-6f);
      const auto expected = reference().layer_norm_modulate(m.parts, 1e-6f);
      for (size_t p = 0; p < expected.size(); ++p)
        EXPECT_LT(relative_l2(actual[p], expected[p]), allowed(12 * kRounding, 1)) << d << ", stream " << p;
    }
  }
}

TEST_P(NormTest, LayerNormKeepsSmallVariationsAroundALargeMean) {
  const Modulation m({{30}}, 192, 1000);
  const Tensor actual = tested().layer_norm_modulate(m.parts, 1e-6f)[0];
  const Tensor expected = reference().layer_norm_modulate(m.parts, 1e-6f)[0];
  // The mean of 1000 is rounded, and what is left of a number after its subtraction is about 1.
  EXPECT_LT(relative_l2(actual, expected), allowed(1000 * 4 * kRounding, 1));
}

TEST_P(NormTest, EqualsItselfWithAnyNumberOfThreads) {
  DeviceUnderTest one(GetParam(), 1), three(GetParam(), 3);
  const Modulation m({{400, 31}, {100, 900}}, 192, 0);
  const auto first = one.tested.layer_norm_modulate(m.parts, 1e-6f),
             second = three.tested.layer_norm_modulate(m.parts, 1e-6f);
  for (size_t p = 0; p < first.size(); ++p) EXPECT_EQ(values_of(first[p]), values_of(second[p]));
}

}  // namespace
}  // namespace inkstone
