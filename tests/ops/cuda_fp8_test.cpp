// Tolerant layers of the cuda device in 8 bits: against the definitions of the ops on numbers that plain loops rounded,
// and against f32 for what rounding costs.
//
// E4M3 has three bits behind the point: a number is off by up to 2^-4 of itself, and by 2^-3 / sqrt(12) of its power of
// two in the mean square, 2.7 % of numbers of all sizes. A product of two such numbers is off by sqrt(2) times that.
#include <gmock/gmock.h>

#include "ops/rounded_on_cuda.h"

namespace inkstone {
namespace {

constexpr double kHalfUlp = 0x1p-4;
constexpr double kLeastStep = 0x1p-9;  // between the smallest codes
constexpr double kLeastError = 0.01;   // less is not 8 bits
constexpr double kMostError = 0.037 * 1.3;
constexpr double kMostRoundedError = 0.027 * 1.3;  // of the numbers themselves
/// Sums of some 14 bits, and results of bf16.
constexpr double kSums = 4e-3 + kNarrowRounding;
/// The same, where bf16 numbers are rounded again: one in 2^-8 / 2^-4 falls on the other side and is off by 2^-3.
constexpr double kTwice = kSums + 0x1p-5;

class CudaFp8Test : public Fp8Test {
 protected:
  /// |tested - definition on rounded numbers|, for parts on the host.
  void expect_as_rounded(const std::vector<LinearPart>& parts, const std::string& what) {
    std::deque<Linear> layers;
    std::vector<LinearPart> rounded = parts;
    for (LinearPart& part : rounded) {
      part.x = as_rounded(part.x);
      part.layer = &layers.emplace_back(as_rounded(*part.layer));
    }
    const auto expected = reference().linear(rounded);
    const auto actual = on_device(parts);
    for (size_t p = 0; p < expected.size(); ++p)
      EXPECT_LT(relative_l2(actual[p], expected[p]), kSums) << what << ", part " << p;
  }
};

const LinearSize kSizes[] = {{1, 16, {16}},     {2, 32, {16, 48}},     {9, 192, {50, 45, 1}}, {17, 768, {192}},
                             {130, 256, {416}}, {65, 3072, {100, 60}}, {1100, 64, {80}},      {33, 12288, {32}}};

TEST_P(CudaFp8Test, EveryFormatEqualsProductsOfRoundedNumbers) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format()) {
      if (size.in % random_unit(format) != 0) continue;
      const Linear layer = tolerant(format, size.outs, size.in, 3);
      expect_as_rounded({{random_normal({size.rows, size.in}, 1), &layer}},
                        fmt::format("{} rows, {} in, {}", size.rows, size.in, layout_of(format).name));
    }
}

TEST_P(CudaFp8Test, SideBranchesAreTakenInBeforeWeightsAreRounded) {
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::affine4}) {
    Linear layer = tolerant(format, {48, 32}, 192, 3);
    add_branches(layer, 2);
    layer.slabs.back().branches.resize(1);
    expect_as_rounded({{random_normal({20, 192}, 1), &layer}}, layout_of(format).name);
    for (const Slab& slab : placed(layer).slabs) EXPECT_TRUE(slab.branches.empty());
  }
}

TEST_P(CudaFp8Test, SideBranchesStayBesideWeightsThatAreInEightBitsAlready) {
  constexpr double kMostInBf16 = 1e-2;
  Linear layer = tolerant(WeightFormat::f8_e4m3, {48, 32}, 192, 3);
  add_branches(layer, 2);
  const Tensor x = random_normal({20, 192}, 1);
  EXPECT_LT(relative_l2(on_device({{x, &layer}})[0], reference().linear(x, layer)), kMostInBf16);
  for (const Slab& slab : placed(layer).slabs) EXPECT_FALSE(slab.branches.empty());
}

TEST_P(CudaFp8Test, RoundingCostsWhatItMust) { expect_error_between(kLeastError, kMostError); }

TEST_P(CudaFp8Test, RowsAndOutputsHaveScalesOfTheirOwn) {
  Linear layer = tolerant(WeightFormat::f32, {64, 16}, 256, 3);
  Tensor x = random_normal({20, 256}, 1);
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] *= std::ldexp(1.0f, static_cast<int>(i / 256) * 4 - 40);
  for (Slab& slab : layer.slabs) slab.bias = {};
  const Tensor& w = layer.slabs[0].weight.data;
  for (int64_t i = 0; i < w.count(); ++i) w.data<float>()[i] *= std::ldexp(1.0f, static_cast<int>(i / 256) % 20 - 10);
  const Tensor actual = on_device({{x, &layer}})[0], expected = reference().linear(x, layer);
  for (int64_t row = 0; row < 20; ++row)
    EXPECT_LT(relative_l2(actual.rows(row, row + 1), expected.rows(row, row + 1)), 0.1) << row;
}

TEST_P(CudaFp8Test, EveryEpilogueOnSeveralPartsAndSequences) {
  for_every_epilogue([&](const auto& parts, const std::string& what) { expect_as_rounded(parts, what); });
}

TEST_P(CudaFp8Test, GateAndResidualOfLongSequences) {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{2051}, {2048, 2300}}) {
    const Sequences rows(lengths);
    Linear layer = tolerant(WeightFormat::bf16, {48}, 96, 4);  // of a width that no fused launch takes
    for (const bool with_bias : {true, false}) {
      if (!with_bias) layer.slabs[0].bias = {};
      const Epilogue epilogue = {.gate = {random_normal({12, 48}, 8), random_indices(rows.count(), 9, 9), 2, &rows},
                                 .residual = random_normal({rows.rows(), 48}, 6)};
      expect_as_rounded({{random_normal({rows.rows(), 96}, 1), &layer, epilogue}},
                        fmt::format("{} sequences, bias {}", lengths.size(), with_bias));
    }
  }
}

TEST_P(CudaFp8Test, WhatFeedsALayerIsRoundedForIt) {
  for (const int64_t width : {16, 4096, 12288})
    for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh}) {
      const Linear up = tolerant(WeightFormat::bf16, {width}, 96, 3),
                   down = tolerant(WeightFormat::f32, {48}, width, 4);
      const Tensor x = random_normal({37, 96}, 1);
      const Tensor between = as_rounded(reference().linear(as_rounded(x), as_rounded(up), {.activation = activation}));
      const Linear on_gpu_up = placed(up), on_gpu_down = placed(down);
      const Tensor fed =
          device_ops().linear(device_ops().upload(x), on_gpu_up, {.activation = activation, .feeds = &on_gpu_down});
      EXPECT_EQ(fed.dtype(), DType::f8_e4m3);
      EXPECT_LT(relative_l2(numbers_of(fed), between), kTwice) << width;
      EXPECT_LT(
          relative_l2(download(device_ops().linear(fed, on_gpu_down)), reference().linear(between, as_rounded(down))),
          kTwice)
          << width;
    }
}

TEST_P(CudaFp8Test, ANormRoundsForTheLayerThatItFeeds) {
  const Sequences rows(std::vector<int64_t>{700, 0, 1, 30});
  for (const int64_t d : {16, 192, 1040, 3072, 4096, 4112}) {
    Tensor x = random_normal({rows.rows(), d}, 1);
    for (float& v : x.span<float>()) v += 3;
    const Linear layer = placed(tolerant(WeightFormat::f32, {16}, d, 3));
    const Tensor table = random_normal({24, d}, 4), row = random_indices(rows.count(), 18, 5);
    const ModulatePart host = {x, {table, row, 3, &rows}, {table, row, 5, &rows}, &layer};
    ModulatePart part = host;
    for (Tensor* t : {&part.x, &part.shift.table, &part.shift.row, &part.scale.table, &part.scale.row})
      *t = device_ops().upload(*t);
    const Tensor normed = device_ops().layer_norm_modulate({part}, 1e-6f)[0];
    const Tensor expected = reference().layer_norm_modulate({host}, 1e-6f)[0];
    EXPECT_EQ(normed.dtype(), d <= 4096 ? DType::f8_e4m3 : DType::bf16);
    const double error = relative_l2(normed.dtype() == DType::bf16 ? download(normed) : numbers_of(normed), expected);
    EXPECT_LT(error, normed.dtype() == DType::bf16 ? kNarrowRounding : kMostRoundedError) << d;
    EXPECT_LT(relative_l2(download(device_ops().linear(normed, layer)),
                          reference().linear(expected, tolerant(WeightFormat::f32, {16}, d, 3))),
              kMostError)
        << d;
  }
}

TEST_P(CudaFp8Test, WeightsAreKeptAsCodesWithAScaleForEachOutput) {
  for (const WeightFormat format : every_weight_format()) {
    const Linear layer = tolerant(format, {30, 34}, 768, 3);
    const Linear kept = placed(layer);
    for (size_t s = 0; s < layer.slabs.size(); ++s) {
      const Weight& w = kept.slabs[s].weight;
      ASSERT_EQ(w.format, WeightFormat::f8_e4m3);
      const Tensor expected = dense(layer.slabs[s].weight), scales = download(w.scales);
      const Tensor actual = dense({w.format, w.out, w.in, download_as_is(w.data), scales, {}, w.group});
      const bool kept_as_stored = format == WeightFormat::f8_e4m3;
      for (int64_t i = 0; i < expected.count(); ++i) {
        const double e = expected.data<float>()[i], scale = std::abs(scales.data<float>()[i / w.in]);
        const double bound = kept_as_stored ? 0 : std::max(kHalfUlp * std::abs(e), kLeastStep / 2 * scale) * (1 + 1e-5);
        ASSERT_LE(std::abs(actual.data<float>()[i] - e), bound) << layout_of(format).name << " " << i;
      }
    }
  }
}

TEST_P(CudaFp8Test, LayersOfOtherSizesAndOthersThanTolerantStayInBf16) {
  expect_in_bf16({{72, 32}, {64, 40}, {12304, 16}});
}

TEST_P(CudaFp8Test, NaNStaysInItsRowAndZerosGiveTheBias) {
  expect_nan_in_its_row([](float bias) { return to_float(to_bf16(bias)); });
}

TEST_P(CudaFp8Test, GivesTheSameNumbersTwice) { expect_same_numbers_twice(); }

INKSTONE_ON_EVERY_GPU(CudaFp8Test);

}  // namespace
}  // namespace inkstone
