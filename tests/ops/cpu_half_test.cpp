// Tolerant layers in 16 bits, with each kind of products that this machine has, against the reference.
//
// Rounding a normal number to nearest costs up to 2^-(digits) of it, 0.42 of that in the root mean square; inputs and
// weights together sqrt(2) times as much. FP16 sums of 64 products cost 0.42 * 2^-11 sqrt(64 / 2) more.
#include <cstring>
#include <gmock/gmock.h>

#include "ops/cpu_under_test.h"
#include "ops/linear_parts.h"

namespace inkstone {
namespace {

class CpuHalfTest : public testing::TestWithParam<HalfKind> {
 protected:
  void SetUp() override {
    half = half_ops(Isa::avx512, GetParam());
    if (half == nullptr) GTEST_SKIP() << "this processor lacks it";
    device = std::make_unique<CpuUnderTest>(Isa::avx512, 2, half);
  }

  double most_error() const { return GetParam() == HalfKind::fp16 ? 1.8e-3 : 3.5e-3; }
  static constexpr double kLeastError = 1e-5;  // less is not 16 bits

  void expect_near(const std::vector<LinearPart>& parts, const std::string& what) {
    const auto actual = device->cpu.linear(parts), expected = device->reference.linear(parts);
    for (size_t p = 0; p < expected.size(); ++p) {
      const double error = relative_l2(actual[p], expected[p]);
      const bool few = expected[p].count() < 20;  // whose errors have no mean
      EXPECT_LT(error, (few ? 2 : 1) * most_error()) << what << ", part " << p;
      if (expected[p].count() > 100) {
        EXPECT_GT(error, kLeastError) << what << ", part " << p;
      }
    }
  }

  const HalfOps* half = nullptr;
  std::unique_ptr<CpuUnderTest> device;
};
INSTANTIATE_TEST_SUITE_P(Kind, CpuHalfTest, testing::Values(HalfKind::fp16, HalfKind::bf16),
                         [](const auto& instance) { return name_of(instance.param); });

Linear tolerant(Linear layer) {
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

Linear tolerant_layer(WeightFormat format, const std::vector<int64_t>& outs, int64_t in, uint64_t seed = 3) {
  return tolerant(layer_of(format, outs, in, seed));
}

// Below, at and above the sizes of vectors, places, tiles, short sums and panels; odd numbers of inputs leave half a
// place.
const LinearSize kSizes[] = {
    {1, 1, {1}},       {1, 32, {3}},       {2, 15, {17}},     {3, 64, {16, 1}},    {7, 33, {31, 50}},
    {8, 96, {48}},     {9, 129, {49, 47}}, {17, 768, {95}},   {31, 769, {64, 64}}, {65, 128, {97, 200}},
    {130, 416, {385}}, {1100, 32, {20}},   {16, 1568, {400}}, {5, 1024, {49}},     {3, 1792, {17}},
};

TEST_P(CpuHalfTest, EveryFormatIsNearItsDefinition) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format()) {
      if (size.in % random_unit(format) != 0) continue;
      const Linear layer = tolerant_layer(format, size.outs, size.in);
      expect_near({{random_normal({size.rows, size.in}, 1), &layer}},
                  fmt::format("{} rows, {} in, {}", size.rows, size.in, layout_of(format).name));
    }
}

/// Whole numbers that 16 bits hold exactly, and sums that they do: nothing may be lost or left out.
TEST_P(CpuHalfTest, WholeNumbersAreExact) {
  for (const LinearSize& size : kSizes) {
    const auto whole = [](Tensor t, int64_t most) {
      for (float& x : t.span<float>()) x = std::round(x * static_cast<float>(most) / 4);
      return t;
    };
    Linear layer;
    for (const int64_t out : size.outs)
      layer.slabs.push_back({dense_weight(whole(random_normal({out, size.in}, 5), 4)), {}});
    layer = tolerant(layer);
    const std::vector<LinearPart> parts = {{whole(random_normal({size.rows, size.in}, 1), 8), &layer}};
    const Tensor actual = device->cpu.linear(parts)[0], expected = device->reference.linear(parts)[0];
    EXPECT_EQ(relative_l2(actual, expected), 0) << size.rows << " rows, " << size.in << " in";
  }
}

TEST_P(CpuHalfTest, LayersThatTolerateNothingStayF32) {
  Linear layer = tolerant_layer(WeightFormat::f32, {50}, 96);
  layer.tolerance = nullptr;
  const Tensor x = random_normal({9, 96}, 1);
  CpuUnderTest plain(Isa::avx512);
  const Tensor actual = device->cpu.linear(x, layer), expected = plain.cpu.linear(x, layer);
  EXPECT_EQ(std::memcmp(actual.data<void>(), expected.data<void>(), actual.bytes()), 0);
}

TEST_P(CpuHalfTest, EveryEpilogueOnSeveralPartsWithBranches) {
  Linear txt = tolerant_layer(WeightFormat::f32, {70, 30}, 64),
         img = tolerant_layer(WeightFormat::bf16, {60, 40}, 97, 4);
  const Gates txt_gates({5, 0, 1, 20}, 100), img_gates({100, 30, 1, 2}, 100);
  const Tensor txt_residual = random_normal({26, 100}, 5), img_residual = random_normal({133, 100}, 6);
  add_branches(txt, 2);
  for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh})
    for (const bool gated : {false, true}) {
      const auto epilogue = [&](const Gates& gates, const Tensor& residual) {
        return Epilogue{.activation = activation, .gate = gated ? gates.rows : SequenceRows(), .residual = residual};
      };
      expect_near({{random_normal({26, 64}, 1), &txt, epilogue(txt_gates, txt_residual)},
                   {random_normal({133, 97}, 2), &img, epilogue(img_gates, img_residual)}},
                  gated ? "gated" : "plain");
    }
}

TEST_P(CpuHalfTest, SideBranchesStayF32) {
  Linear layer = tolerant_layer(WeightFormat::f32, {50}, 96);
  for (float& w : layer.slabs[0].weight.data.span<float>()) w = 0;
  add_branches(layer, 2);
  const Tensor x = random_normal({9, 96}, 1);
  EXPECT_LT(relative_l2(device->cpu.linear(x, layer), device->reference.linear(x, layer)), 1e-6);
}

TEST_P(CpuHalfTest, OutliersAndAnySizeOfNumbersCostNoMore) {
  constexpr int64_t kRows = 21, kIn = 800, kOut = 70;
  for (const double size : {1e-20, 1e-10, 1.0, 6e4, 7e4, 1e10, 1e18})
    for (const double weight_size : {1e-15, 1.0, 1e5, 1e17})
      for (const float outlier : {1.0f, 300.0f}) {
        Linear layer = tolerant_layer(WeightFormat::f32, {kOut}, kIn);
        layer.slabs[0].bias = {};
        for (float& w : layer.slabs[0].weight.data.span<float>()) w *= static_cast<float>(weight_size);
        const Tensor x = random_normal({kRows, kIn}, 1);
        for (float& v : x.span<float>()) v *= static_cast<float>(size);
        for (int64_t row = 0; row < kRows; ++row) x.data<float>()[row * kIn + row] *= outlier;
        expect_near({{x, &layer}}, fmt::format("{} times {}, outliers {}", size, weight_size, outlier));
      }
}

/// Rows and outputs are scaled each by itself: a large one takes nothing from the others.
TEST_P(CpuHalfTest, RowsAndOutputsOfDifferentSizesKeepTheirDigits) {
  constexpr int64_t kRows = 20, kIn = 200, kOut = 60;
  Linear layer = tolerant_layer(WeightFormat::f32, {kOut}, kIn);
  layer.slabs[0].bias = {};
  const Tensor x = random_normal({kRows, kIn}, 1);
  for (int64_t row = 0; row < kRows; ++row)
    for (float& v : x.rows(row, row + 1).span<float>()) v *= std::exp2(static_cast<float>(3 * row - 30));
  const Tensor& w = layer.slabs[0].weight.data;
  for (int64_t o = 0; o < kOut; ++o)
    for (float& v : w.rows(o, o + 1).span<float>()) v *= std::exp2(static_cast<float>(o - 30));
  const Tensor actual = device->cpu.linear(x, layer), expected = device->reference.linear(x, layer);
  // Each number by what it would be if all of its products had one sign, over the square root of their count.
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t o = 0; o < kOut; ++o) {
      const double size = std::exp2(3 * row - 30 + o - 30) * std::sqrt(static_cast<double>(kIn));
      const int64_t at = row * kOut + o;
      EXPECT_LT(std::abs(actual.data<float>()[at] - expected.data<float>()[at]) / size, 5 * most_error()) << at;
    }
}

/// All products of the greatest numbers have one sign: FP16 sums reach their bound and may not pass it.
TEST_P(CpuHalfTest, SumsOfTheGreatestNumbersDoNotOverflow) {
  const float near_power = std::nextafter(2.0f, 0.0f);
  const auto filled = [&](Shape shape) {
    Tensor t = host_tensor(shape, DType::f32);
    std::ranges::fill(t.span<float>(), near_power);
    return t;
  };
  Linear layer;
  layer.slabs.push_back({dense_weight(filled({50, 1600})), {}});
  layer = tolerant(layer);
  const Tensor x = filled({9, 1600});
  EXPECT_LT(relative_l2(device->cpu.linear(x, layer), device->reference.linear(x, layer)), most_error());
}

TEST_P(CpuHalfTest, ZerosGiveZerosAndWhatIsNotFiniteIsSeen) {
  Linear layer = tolerant_layer(WeightFormat::f32, {50}, 96);
  layer.slabs[0].bias = {};
  const Tensor x = random_normal({9, 96}, 1);
  std::ranges::fill(x.rows(3, 4).span<float>(), 0.0f);
  for (const float broken : {NAN, INFINITY, -INFINITY}) {
    x.data<float>()[5 * 96 + 7] = broken;
    const Tensor y = device->cpu.linear(x, layer);
    for (int64_t row = 0; row < 9; ++row)
      for (const float v : y.rows(row, row + 1).span<float>()) {
        EXPECT_EQ(std::isfinite(v), row != 5) << row;
        EXPECT_TRUE(row != 3 || v == 0) << v;
      }
  }
  x.data<float>()[5 * 96 + 7] = 1;
  layer.slabs[0].weight.data.data<float>()[2 * 96 + 1] = NAN;
  const Tensor y = device->cpu.linear(x, layer);
  for (int64_t o = 0; o < 50; ++o) EXPECT_EQ(std::isfinite(y.data<float>()[o]), o != 2) << o;
}

TEST_P(CpuHalfTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const Linear layer = tolerant_layer(WeightFormat::bf16, {500, 100}, 1000);
  const Tensor x = random_normal({77, 1000}, 1);
  CpuUnderTest other(Isa::avx512, 5, half);
  const Tensor a = device->cpu.linear(x, layer), b = other.cpu.linear(x, layer);
  EXPECT_EQ(std::memcmp(a.data<void>(), b.data<void>(), a.bytes()), 0);
}

TEST_P(CpuHalfTest, StepBytesAreThoseOfTheRoundedRows) {
  ThreadPool pool(1);
  const CpuKernels kernels(pool, vector_ops(Isa::avx512), nullptr, 0, half), plain(pool, vector_ops(Isa::avx512));
  const Linear layer = tolerant_layer(WeightFormat::f32, {50}, 97);
  const std::vector<LinearPart> parts = {{random_normal({9, 97}, 1), &layer}};
  EXPECT_EQ(kernels.step_bytes(parts), 9 * (80 + 1) * sizeof(float));  // five lines of 16 places and a scale
  EXPECT_EQ(plain.step_bytes(parts), 0);
}

TEST(HalfOps, AreOfAvx512Only) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx_vnni})
    for (const HalfKind kind : {HalfKind::fp16, HalfKind::bf16}) EXPECT_EQ(half_ops(isa, kind), nullptr);
}

}  // namespace
}  // namespace inkstone
