// linear and embed of every device. A sum of k products in f32 is off by at most about sqrt(k / 6) roundings in the
// relative L2 norm of a whole result, as each partial sum rounds once and partial sums grow like a random walk.
#include <gmock/gmock.h>

#include "ops/device_under_test.h"
#include "ops/linear_parts.h"

namespace inkstone {
namespace {

class LinearTest : public OpsTest {
 protected:
  void expect_equal(const std::vector<LinearPart>& parts, const std::string& what, double narrow_roundings = 2);
};
INKSTONE_ON_EVERY_DEVICE(LinearTest);

/// Half as much again as is expected of a sum of k products, and ten roundings for what follows the sum.
double tolerance(int64_t k) { return (10 + 0.6 * std::sqrt(static_cast<double>(k))) * kRounding; }

void LinearTest::expect_equal(const std::vector<LinearPart>& parts, const std::string& what, double narrow_roundings) {
  const auto actual = tested().linear(parts);
  const auto expected = reference().linear(parts);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t p = 0; p < expected.size(); ++p)
    EXPECT_LT(relative_l2(actual[p], expected[p]), allowed(tolerance(parts[p].layer->in()), narrow_roundings))
        << what << ", part " << p;
}

// Rows, inputs and outputs below, at and above the sizes of vectors, tiles and blocks of every instruction set.
const LinearSize kSizes[] = {
    {1, 1, {1}},       {1, 32, {3}},          {2, 15, {17}},    {3, 64, {16, 1}},        {7, 33, {31, 50}},
    {8, 96, {48}},     {9, 192, {49, 47, 1}}, {17, 385, {95}},  {31, 384, {64, 64, 64}}, {65, 128, {97, 200}},
    {1, 1000, {1000}}, {130, 416, {385}},     {1100, 32, {20}}, {40, 1568, {400}},       {5, 512, {49}},
    {3, 1792, {17}},
};

TEST_P(LinearTest, EveryFormatEqualsItsDefinition) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format()) {
      if (size.in % random_unit(format) != 0) continue;
      const Linear layer = layer_of(format, size.outs, size.in, 3);
      const Tensor x = random_normal({size.rows, size.in}, 1);
      expect_equal({{x, &layer}}, fmt::format("{} rows, {} in, {}", size.rows, size.in, layout_of(format).name));
    }
}

TEST_P(LinearTest, EveryGroupAndTypeOfScales) {
  for (const int group : {16, 64, 128, 512})
    for (const int bits : {4, 8})
      for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
        Linear layer = layer_of(bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8, {50}, 1024, 3);
        Weight& w = layer.slabs[0].weight;
        w.group = group;
        const Tensor scales = random_normal({50, 1024 / group}, 4, 0.01f), offsets = random_normal(scales.shape(), 5);
        const auto stored = [&](const Tensor& t) {
          return type == DType::f32 ? t : type == DType::f16 ? as_f16(t) : as_bf16(t);
        };
        w.scales = stored(scales);
        w.offsets = stored(offsets);
        expect_equal({{random_normal({9, 1024}, 1), &layer}}, fmt::format("groups of {}, {} bits", group, bits));
      }
}

TEST_P(LinearTest, SlabsOfDifferentFormatsMakeOneLayer) {
  Linear layer;
  for (const WeightFormat format : every_weight_format())
    layer.slabs.push_back(
        {random_weight(format, 20, 256, layer.slabs.size()), random_normal({20}, layer.slabs.size())});
  expect_equal({{random_normal({33, 256}, 1), &layer}}, "mixed");
}

/// Weights with what was added to them are rounded once more, twice where five branches are added in two goes.
constexpr double kRoundingsOfChanged = 4;

TEST_P(LinearTest, SideBranchesBesideEveryFormat) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format())
      for (const size_t branches : {size_t{1}, size_t{5}}) {
        if (size.in % random_unit(format) != 0) continue;
        Linear layer = layer_of(format, size.outs, size.in, 3);
        add_branches(layer, branches);
        layer.slabs.back().branches.resize(branches - 1);  // slabs need not have the same
        const Tensor x = random_normal({size.rows, size.in}, 1);
        expect_equal(
            {{x, &layer}},
            fmt::format("{} rows, {} in, {}, {} branches", size.rows, size.in, layout_of(format).name, branches),
            kRoundingsOfChanged);
      }
}

TEST_P(LinearTest, SideBranchOfAHighRankEqualsTheMergedMatrix) {
  Linear layer = layer_of(WeightFormat::f32, {130}, 96, 3);
  const SideBranch branch = {random_weight(WeightFormat::f32, 800, 96, 8),
                             random_weight(WeightFormat::f32, 130, 800, 9), 1.5f};
  const Tensor merged = host_tensor({130, 96}, DType::f32);
  for (int64_t o = 0; o < 130; ++o)
    for (int64_t i = 0; i < 96; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < 800; ++r)
        sum += double{branch.up.data.data<float>()[o * 800 + r]} * branch.down.data.data<float>()[r * 96 + i];
      merged.data<float>()[o * 96 + i] =
          static_cast<float>(layer.slabs[0].weight.data.data<float>()[o * 96 + i] + 1.5 * sum);
    }
  const Linear plain = {{{dense_weight(merged), layer.slabs[0].bias}}};
  layer.slabs[0].branches = {branch};
  const Tensor x = random_normal({40, 96}, 1);
  EXPECT_LT(relative_l2(tested().linear(x, layer), reference().linear(x, plain)), allowed(1e-6));
}

TEST_P(LinearTest, EveryEpilogueOnSeveralParts) {
  Linear txt = layer_of(WeightFormat::f32, {70, 30}, 64, 3);
  const Linear img = layer_of(WeightFormat::bf16, {60, 40}, 96, 4);
  const Gates txt_gates({5, 0, 1, 20}, 100), img_gates({100, 30, 1, 2}, 100);
  const Tensor txt_x = random_normal({26, 64}, 1), img_x = random_normal({133, 96}, 2);
  const Tensor txt_residual = random_normal({26, 100}, 5), img_residual = random_normal({133, 100}, 6);
  add_branches(txt, 2);
  for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh})
    for (const bool gated : {false, true})
      for (const bool added : {false, true}) {
        Epilogue a = {.activation = activation}, b = {.activation = activation};
        if (gated) a.gate = txt_gates.rows, b.gate = img_gates.rows;
        if (added) a.residual = txt_residual, b.residual = img_residual;
        expect_equal({{txt_x, &txt, a}, {img_x, &img, b}},
                     fmt::format("activation {}, gate {}, residual {}", static_cast<int>(activation), gated, added));
      }
}

TEST_P(LinearTest, AResultMayBeMadeForTheLayerThatItFeeds) {
  const Linear up = layer_of(WeightFormat::bf16, {96}, 64, 3), down = layer_of(WeightFormat::bf16, {64}, 96, 4);
  for (const Activation activation : {Activation::none, Activation::gelu_tanh})
    expect_equal({{random_normal({33, 64}, 1), &up, {.activation = activation, .feeds = &down}}},
                 fmt::format("activation {}", static_cast<int>(activation)));
}

TEST_P(LinearTest, WeightsAndRowsMayBeViewsAtAnyAddress) {
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::f16, WeightFormat::bf16}) {
    const Weight all = random_weight(format, 41, 63, 3);
    Linear layer = {{{dense_weight(all.data.rows(1, 41)), random_normal({41}, 4).rows(1, 41)}}};
    const Tensor x = random_normal({12, 63}, 5).rows(3, 10), residual = random_normal({20, 40}, 6).rows(1, 8);
    expect_equal({{x, &layer, {.residual = residual}}}, layout_of(format).name);
  }
}

TEST_P(LinearTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const Linear wide = layer_of(WeightFormat::bf16, {500, 200}, 800, 3),
               narrow = layer_of(WeightFormat::f32, {100}, 64, 4);
  const std::vector<LinearPart> parts = {{random_normal({20, 800}, 1), &wide}, {random_normal({300, 64}, 2), &narrow}};
  const auto expected = tested().linear(parts);
  for (const int threads : {1, 5, 16}) {
    DeviceUnderTest other(GetParam(), threads);
    const auto actual = other.tested.linear(parts);
    for (size_t p = 0; p < parts.size(); ++p) EXPECT_EQ(values_of(actual[p]), values_of(expected[p])) << threads;
  }
}

TEST_P(LinearTest, ARowsResultDoesNotDependOnItsNeighbours) {
  if (!GetParam().isa) GTEST_SKIP() << "cuBLAS chooses the order of a sum by the number of rows";
  const Linear layer = layer_of(WeightFormat::f32, {100}, 500, 3);
  const Tensor x = random_normal({300, 500}, 1);
  const Tensor all = tested().linear(x, layer);
  for (const int64_t row : {0, 150, 299})
    EXPECT_EQ(values_of(tested().linear(x.rows(row, row + 1), layer)), values_of(all.rows(row, row + 1))) << row;
}

TEST_P(LinearTest, NaNAndInfinityStayInTheirRow) {
  const Linear layer = layer_of(WeightFormat::f32, {50}, 40, 3);
  Tensor x = random_normal({20, 40}, 1);
  x.data<float>()[7 * 40 + 3] = NAN;
  const Tensor y = tested().linear(x, layer);
  for (int64_t row = 0; row < 20; ++row)
    for (const float v : values_of(y.rows(row, row + 1))) EXPECT_EQ(std::isnan(v), row == 7);
}

TEST_P(LinearTest, EmbedGivesRowsOfTheTableInEveryFormat) {
  for (const WeightFormat format : every_weight_format()) {
    const Weight table = random_weight(format, 50, 3 * random_unit(format), 3);
    for (const int64_t n : {1, 15, 100}) {
      const Tensor ids = random_indices(n, 50, 4);
      EXPECT_EQ(values_of(tested().embed(table, ids)), values_of(reference().embed(table, ids)))
          << layout_of(format).name;
    }
  }
}

}  // namespace
}  // namespace inkstone
