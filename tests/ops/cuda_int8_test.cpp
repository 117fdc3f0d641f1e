// Tolerant layers of the cuda device in whole numbers of 8 bits: against the definitions of the ops on numbers that the
// plain loops of ops/mixed_codes.cpp rounded, and against f32 for what rounding costs.
#include <gmock/gmock.h>

#include "cpu/int8_factors.h"
#include "ops/rounded_on_cuda.h"
#include "ops/rounded_weights.h"

namespace inkstone {
namespace {

constexpr double kSums = 1e-5;         // of f32 in another order
constexpr double kLeastError = 0.004;  // less is not 8 bits
constexpr double kMostError = 0.014;   // codes up to 127 of normal numbers: 0.7 % for each operand

/// Rows as the device rounds them for a layer with these factors.
Tensor as_mixed(const Tensor& x, const Tensor& factors) {
  const Tensor of_weight = host_tensor(factors.shape(), DType::f32);
  std::ranges::transform(factors.span<const float>(), of_weight.data<float>(), [](float f) { return 1 / f; });
  return dense(in_mixed_order(WeightFormat::affine8, x, of_weight));
}

class CudaInt8Test : public RoundedOnCudaTest {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
    open(CudaArithmetic::int8);
  }

  /// The mixed codes that the device made of a slab.
  Weight downloaded(const Weight& w) {
    Weight host = w;
    for_each_tensor(host, [&](Tensor& tensor) { tensor = download_as_is(tensor); });
    return host;
  }

  /// |tested - definition on rounded numbers|, for parts on the host.
  void expect_as_rounded(const std::vector<LinearPart>& parts, const std::string& what) {
    std::deque<Linear> layers;
    std::vector<LinearPart> rounded = parts;
    for (LinearPart& part : rounded) {
      const Linear there = placed(*part.layer);
      Linear& layer = layers.emplace_back();
      for (const Slab& slab : there.slabs) {
        const Weight weight = downloaded(slab.weight);
        if (!weight.factors) FAIL() << what << ": is not mixed";
        layer.slabs.push_back({dense_weight(dense(weight)), part.layer->slabs[layer.slabs.size()].bias});
        if (layer.slabs.size() == 1) part.x = as_mixed(part.x, weight.factors);
      }
      part.layer = &layer;
    }
    const auto expected = reference().linear(rounded);
    const auto actual = on_device(parts);
    for (size_t p = 0; p < expected.size(); ++p)
      EXPECT_LT(relative_l2(actual[p], expected[p]), kSums + (parts[p].layer->slabs.size() > 1 ? kNarrowRounding : 0))
          << what << ", part " << p;
  }
};

const LinearSize kSizes[] = {{1, 16, {16}},      {2, 32, {16, 48}}, {9, 192, {64, 32, 16}},
                             {17, 768, {192}},   {130, 256, {416}}, {65, 3072, {112, 64}},
                             {1100, 64, {80}},   {33, 12288, {32}}, {128, 384, {96, 96, 96}},
                             {129, 3136, {144}}, {40, 400, {48}}};

TEST_P(CudaInt8Test, EveryFormatEqualsProductsOfMixedCodes) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format()) {
      if (size.in % random_unit(format) != 0) continue;
      const Linear layer = tolerant(format, size.outs, size.in, 3);
      expect_as_rounded({{random_normal({size.rows, size.in}, 1), &layer}},
                        fmt::format("{} rows, {} in, {}", size.rows, size.in, layout_of(format).name));
    }
}

TEST_P(CudaInt8Test, WeightsAreTheCodesThatPlainLoopsGive) {
  for (const int64_t in : {16, 64, 192, 400, 768, 3072, 3136})
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::affine4}) {
      if (in % random_unit(format) != 0) continue;
      Linear layer = tolerant(format, {112, 16}, in, 3);
      const Linear there = placed(layer);
      for (size_t s = 0; s < layer.slabs.size(); ++s) {
        const Weight made = downloaded(there.slabs[s].weight);
        const Weight expected = in_mixed_order(made.format, dense(layer.slabs[s].weight), made.factors);
        EXPECT_TRUE(std::ranges::equal(made.data.span<const uint8_t>(), expected.data.span<const uint8_t>())) << in;
        EXPECT_EQ(values_of(made.scales), values_of(expected.scales)) << in;
      }
    }
}

/// Weights, and some inputs' much smaller or zero.
Linear with_small_inputs(int64_t in) {
  Linear layer = tolerant(WeightFormat::f32, {96, 32}, in, 3);
  for (Slab& slab : layer.slabs)
    for (int64_t o = 0; o < slab.weight.out; ++o)
      for (int64_t i = 0; i < in; i += 48) slab.weight.data.data<float>()[o * in + i] *= i == 96 ? 0.0f : 1.0f / 64.0f;
  return layer;
}

TEST_P(CudaInt8Test, InputsAreEvenedOutAsOnACpu) {
  ThreadPool threads(1);
  for (const int64_t in : {192, 3072}) {
    const Linear layer = with_small_inputs(in);
    const Tensor factors = download(placed(layer).slabs[0].weight.factors);
    const Int8Factors expected = int8_factors(layer, threads, vector_ops());
    EXPECT_EQ(values_of(factors), expected.of_input);
    EXPECT_EQ(factors.data<float>()[48], 1.0f / 64);
  }
}

TEST_P(CudaInt8Test, LargeInputsWithSmallWeightsCostNothing) {
  const Linear layer = with_small_inputs(768);
  Tensor x = random_normal({40, 768}, 1);
  for (int64_t i = 0; i < x.count(); ++i)
    if (i % 768 % 48 == 0) x.data<float>()[i] *= 64;
  EXPECT_LT(relative_l2(on_device({{x, &layer}})[0], reference().linear(x, layer)), kMostError);
}

TEST_P(CudaInt8Test, SideBranchesAreTakenInBeforeWeightsAreRounded) {
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::affine4}) {
    Linear layer = tolerant(format, {48, 32}, 192, 3);
    add_branches(layer, 2);
    layer.slabs.back().branches.resize(1);
    expect_as_rounded({{random_normal({20, 192}, 1), &layer}}, layout_of(format).name);
    const Linear there = placed(layer);
    for (size_t s = 0; s < 2; ++s) {
      EXPECT_TRUE(there.slabs[s].branches.empty());
      EXPECT_LT(relative_l2(dense(downloaded(there.slabs[s].weight)), merged(layer.slabs[s])), kMostError);
    }
  }
}

/// Files give weights in FP8 as tensors of that type.
TEST_P(CudaInt8Test, WeightsInFp8AreTheSameWhateverTheTypeOfTheirBytes) {
  for (const auto& [format, type] :
       {std::pair{WeightFormat::f8_e4m3, DType::f8_e4m3}, {WeightFormat::f8_e5m2, DType::f8_e5m2}}) {
    const Linear bytes = tolerant(format, {64, 32}, 192, 3);
    Linear numbers = bytes;
    for (Slab& slab : numbers.slabs) {
      const Tensor& data = slab.weight.data;
      slab.weight.data = {data.buffer(), data.offset(), data.shape(), type};
    }
    const Tensor x = random_normal({40, 192}, 1);
    EXPECT_EQ(values_of(on_device({{x, &numbers}})[0]), values_of(on_device({{x, &bytes}})[0]))
        << layout_of(format).name;
  }
}

TEST_P(CudaInt8Test, RoundingCostsWhatItMust) { expect_error_between(kLeastError, kMostError); }

TEST_P(CudaInt8Test, EveryEpilogueOnSeveralPartsAndSequences) {
  for_every_epilogue([&](const auto& parts, const std::string& what) { expect_as_rounded(parts, what); });
}

TEST_P(CudaInt8Test, LayersOfOtherSizesAndOthersThanTolerantStayInBf16) {
  expect_in_bf16({{72, 32}, {64, 40}});
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{72, 32}, {64, 40}})
    EXPECT_FALSE(placed(tolerant(WeightFormat::f32, {out}, in, 3)).slabs[0].weight.factors) << in;
}

TEST_P(CudaInt8Test, NaNStaysInItsRowAndZerosGiveTheBias) {
  expect_nan_in_its_row([](float bias) { return bias; });
}

TEST_P(CudaInt8Test, GivesTheSameNumbersTwice) { expect_same_numbers_twice(); }

INKSTONE_ON_EVERY_GPU(CudaInt8Test);

}  // namespace
}  // namespace inkstone
