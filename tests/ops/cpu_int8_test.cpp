// Tolerant layers in 8 bits: against products of whole numbers as plain loops, and against f32 for what rounding costs.
//
// A number that is rounded in a group of 384 normal ones is off by about 0.7 % of their size: the greatest is 3 times
// that, a step is a 127th of it, and the error of a step is 1 / sqrt(12) of it. Inputs and weights together: 1 %.
// Mixing leaves normal numbers normal.
#include <cstring>
#include <gmock/gmock.h>

#include "model/block_source.h"
#include "ops/cpu_under_test.h"
#include "ops/int8_plain.h"
#include "ops/mixed_weights.h"

namespace inkstone {
namespace {

constexpr double kLeastError = 1e-4;  // less is not 8 bits
constexpr double kMostError = 0.012;
constexpr size_t kKept = size_t{4} << 20;  // bytes of rounded weights, where a test keeps some

class CpuInt8Test : public CpuInt8Fixture {};
INKSTONE_FOR_EVERY_ISA_PAIR(CpuInt8Test);

Linear strict(Linear layer) {
  layer.tolerance = nullptr;
  return layer;
}

/// Every number of a weight.
Tensor dense(Ops& reference, const Weight& w) {
  std::vector<int32_t> rows(static_cast<size_t>(w.out));
  std::iota(rows.begin(), rows.end(), 0);
  return reference.embed(w, host_tensor(rows));
}

/// All rows of codes by all weights, with f64 sums.
std::vector<double> plain_products(const Codes& rows, int64_t count, const Codes& weights, int64_t in) {
  const int64_t outs = static_cast<int64_t>(weights.codes.size()) / in;
  std::vector<double> y;
  for (int64_t row = 0; row < count; ++row)
    for (int64_t o = 0; o < outs; ++o) y.push_back(plain_product(rows, weights, row, o, in));
  return y;
}

/// What a side branch adds: rows of low rank are rounded again.
std::vector<double> plain_branch(CpuUnderTest& device, const Codes& rows, int64_t count, const SideBranch& branch,
                                 const Int8Factors& factors) {
  const Codes down = plain_codes(dense(device.reference, branch.down), factors.of_weight);
  const std::vector<double> low = plain_products(rows, count, down, branch.down.in);
  const Tensor single = host_tensor({count, branch.rank()}, DType::f32);
  std::ranges::transform(low, single.data<float>(), [](double v) { return static_cast<float>(v); });
  std::vector<double> y =
      plain_products(plain_codes(single), count, plain_codes(dense(device.reference, branch.up)), branch.rank());
  for (double& v : y) v *= branch.factor;
  return y;
}

/// The code of 8 bits that one of 4 stands for.
int small_code(const Weight& weight, const MixedOrder& order, int64_t output, int64_t input) {
  const int byte = weight.data.data<const uint8_t>()[order.pair(output, input)];
  const uint8_t* step = weight.offsets.data<const uint8_t>() + order.step(output, input);
  return (MixedOrder::is_upper(input) ? byte / 16 : byte % 16) * step[0] +
         step[order.columns(MixedOrder::strip_of(output))];
}

/// Rounded, or as they are.
Codes plain_weight(CpuUnderTest& device, const Weight& weight, const Int8Factors& factors) {
  if (!weight.factors) return plain_codes(dense(device.reference, weight), factors.of_weight);
  Codes codes;
  const MixedOrder order = {weight.out, weight.in};
  for (int64_t o = 0; o < weight.out; ++o)
    for (int64_t i = 0; i < weight.in; ++i) {
      const auto* data = weight.data.data<const uint8_t>();
      const int code =
          weight.format == WeightFormat::affine8 ? data[order.code(o, i)] : small_code(weight, order, o, i);
      codes.codes.push_back(static_cast<int8_t>(code - kMixedOffset));
      if (i % kMixedGroup == 0) codes.scales.push_back(weight.scales.data<const float>()[order.scale(o, i)]);
    }
  return codes;
}

Tensor plain_linear(CpuUnderTest& device, const Tensor& x, const Linear& layer) {
  ThreadPool pool(1);
  const Int8Factors factors = int8_factors(layer, pool, vector_ops(Isa::scalar));
  const Codes rows = plain_codes(x, factors.of_input);
  const int64_t count = x.dim(0);
  Tensor y = host_tensor({x.dim(0), layer.out()}, DType::f32);
  int64_t column = 0;
  for (const Slab& slab : layer.slabs) {
    std::vector<double> sums = plain_products(rows, count, plain_weight(device, slab.weight, factors), layer.in());
    for (const SideBranch& branch : slab.branches)
      std::ranges::transform(sums, plain_branch(device, rows, count, branch, factors), sums.begin(), std::plus());
    for (int64_t row = 0; row < count; ++row)
      for (int64_t o = 0; o < slab.weight.out; ++o)
        y.data<float>()[row * layer.out() + column + o] =
            static_cast<float>(sums[static_cast<size_t>(row * slab.weight.out + o)]) + slab.bias.data<float>()[o];
    column += slab.weight.out;
  }
  return y;
}

// Rows, inputs and outputs below, at and above the sizes of vectors, groups, tiles and panels of every instruction set.
struct LinearSize {
  int64_t rows, in;
  std::vector<int64_t> outs;
};
const LinearSize kSizes[] = {
    {1, 1, {1}},     {1, 32, {3}},         {2, 15, {17}},   {3, 64, {16, 1}}, {8, 128, {48}},  {9, 192, {49, 47, 1}},
    {17, 385, {95}}, {65, 128, {97, 200}}, {5, 1536, {49}}, {3, 1792, {17}},  {3, 3328, {17}},
};

TEST_P(CpuInt8Test, EveryFormatEqualsProductsOfWholeNumbers) {
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : every_weight_format()) {
      if (size.in % random_unit(format) != 0) continue;
      const Linear layer = tolerant(format, size.outs, size.in, 3);
      const Tensor x = random_normal({size.rows, size.in}, 1);
      // A group's sum is exact; scaling and adding it round.
      EXPECT_LT(relative_l2(cpu().linear(x, layer), plain_linear(*device, x, layer)), 10 * kRounding)
          << fmt::format("{} rows, {} in, {}", size.rows, size.in, layout_of(format).name);
    }
}

TEST_P(CpuInt8Test, RoundingCostsWhatItMust) {
  for (const WeightFormat format : every_weight_format()) {
    const Linear layer = tolerant(format, {150}, 768, 3);
    const Tensor x = random_normal({40, 768}, 1);
    const double error = relative_l2(cpu().linear(x, layer), reference().linear(x, layer));
    EXPECT_GT(error, kLeastError) << layout_of(format).name;
    EXPECT_LT(error, 1.5 * kMostError) << layout_of(format).name;  // blocks' numbers are no normal ones
  }
}

TEST_P(CpuInt8Test, OtherLayersStayExact) {
  const Linear layer = strict(tolerant(WeightFormat::f32, {150}, 768, 3)),
               rounded = tolerant(WeightFormat::f32, {9}, 64, 4);
  const Tensor x = random_normal({40, 768}, 1), other = random_normal({5, 64}, 2);
  const Tensor expected = reference().linear(x, layer);
  EXPECT_LT(relative_l2(cpu().linear(x, layer), expected), 30 * kRounding);
  const auto mixed = cpu().linear(std::vector<LinearPart>{{other, &rounded}, {x, &layer}});
  EXPECT_LT(relative_l2(mixed[1], expected), 30 * kRounding) << "beside a tolerant one";
  EXPECT_EQ(values_of(mixed[0]), values_of(cpu().linear(other, rounded))) << "beside an exact one";
}

TEST_P(CpuInt8Test, SideBranchesEqualProductsOfWholeNumbers) {
  for (const LinearSize& size : kSizes)
    for (const size_t branches : {size_t{1}, size_t{3}}) {
      Linear layer = tolerant(WeightFormat::bf16, size.outs, size.in, 3);
      add_branches(layer, branches);
      layer.slabs.back().branches.resize(branches - 1);  // slabs need not have the same
      const Tensor x = random_normal({size.rows, size.in}, 1);
      EXPECT_LT(relative_l2(cpu().linear(x, layer), plain_linear(*device, x, layer)), 10 * kRounding)
          << fmt::format("{} rows, {} in, {} branches", size.rows, size.in, branches);
    }
}

// Two more roundings than a matrix alone has: of the rows of low rank, and of the second matrix.
TEST_P(CpuInt8Test, RoundingASideBranchCostsWhatItMust) {
  for (const int64_t rank : {1, 4, 64, 130}) {
    Linear layer = tolerant(WeightFormat::bf16, {150}, 768, 3);
    Slab& slab = layer.slabs[0];
    std::memset(slab.weight.data.data<void>(), 0, slab.weight.data.bytes());
    slab.branches = {
        {random_weight(WeightFormat::f16, rank, 768, 7), random_weight(WeightFormat::f32, 150, rank, 8), -3}};
    const Tensor x = random_normal({40, 768}, 1);
    const double error = relative_l2(cpu().linear(x, layer), reference().linear(x, layer));
    EXPECT_GT(error, kLeastError) << rank;
    EXPECT_LT(error, 2 * kMostError) << rank;
  }
}

TEST_P(CpuInt8Test, EveryEpilogueOnSeveralParts) {
  Linear txt = tolerant(WeightFormat::f32, {70, 30}, 64, 3), img = tolerant(WeightFormat::bf16, {60, 40}, 96, 4);
  add_branches(img, 1);
  const Sequences txt_lengths(std::vector<int64_t>{5, 0, 1, 20}), img_lengths(std::vector<int64_t>{100, 30, 1, 2});
  const Tensor table = random_normal({12, 100}, 8), row = random_indices(4, 9, 9);
  const Tensor txt_x = random_normal({26, 64}, 1), img_x = random_normal({133, 96}, 2);
  for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh})
    for (const bool gated : {false, true})
      for (const bool added : {false, true}) {
        Epilogue a = {.activation = activation}, b = {.activation = activation};
        if (gated) a.gate = {table, row, 2, &txt_lengths}, b.gate = {table, row, 2, &img_lengths};
        if (added) a.residual = random_normal({26, 100}, 5), b.residual = random_normal({133, 100}, 6);
        const std::vector<LinearPart> parts = {{txt_x, &txt, a}, {img_x, &img, b}};
        const auto actual = cpu().linear(parts), expected = reference().linear(parts);
        for (size_t p = 0; p < parts.size(); ++p) EXPECT_LT(relative_l2(actual[p], expected[p]), kMostError) << p;
      }
}

TEST_P(CpuInt8Test, WhatFeedsALayerIsRoundedAsTheLayerWould) {
  for (const int64_t d : {2, 20, 192, 700}) {
    Linear up = tolerant(WeightFormat::f32, {2 * d}, d, 3), down = tolerant(WeightFormat::f32, {d}, 2 * d, 4);
    add_branches(up, 1);
    add_branches(down, 2);
    const Sequences lengths(std::vector<int64_t>{30, 7});
    const Tensor table = random_normal({8, d}, 8), row = random_indices(2, 4, 9);
    const auto run = [&](const Linear* feeds_up, const Linear* feeds_down) {
      const ModulatePart part = {
          random_normal({37, d}, 1), {table, row, 0, &lengths}, {table, row, 1, &lengths}, feeds_up};
      const auto normed = cpu().layer_norm_modulate(std::vector{part}, 1e-6f);
      const Epilogue epilogue = {.activation = Activation::gelu_tanh, .feeds = feeds_down};
      const auto wide = cpu().linear(std::vector<LinearPart>{{normed[0], &up, epilogue}});
      return values_of(cpu().linear(wide[0], down));
    };
    EXPECT_EQ(run(&up, &down), run(nullptr, nullptr)) << d;
  }
}

TEST_P(CpuInt8Test, LargeChannelsWithSmallWeightsCostNothing) {
  constexpr int64_t kIn = 768, kOut = 150, kSpacing = 64;
  const auto error = [&](float size) {
    const Linear layer = tolerant(WeightFormat::f32, {kOut}, kIn, 3);
    const Tensor x = random_normal({40, kIn}, 1), &w = layer.slabs[0].weight.data;
    for (int64_t i = 5; i < kIn; i += kSpacing) {
      for (int64_t r = 0; r < x.dim(0); ++r) x.data<float>()[r * kIn + i] *= size;
      for (int64_t o = 0; o < kOut; ++o) w.data<float>()[o * kIn + i] /= size;
    }
    return relative_l2(cpu().linear(x, layer), reference().linear(x, layer));
  };
  EXPECT_LT(error(128), 1.05 * error(1));
}

TEST_P(CpuInt8Test, ResultsDoNotDependOnTheNumberOfThreads) {
  const Linear narrow = tolerant(WeightFormat::f32, {100}, 64, 4);
  Linear wide = tolerant(WeightFormat::bf16, {500, 200}, 800, 3);
  add_branches(wide, 2);
  const std::vector<LinearPart> parts = {{random_normal({20, 800}, 1), &wide}, {random_normal({300, 64}, 2), &narrow}};
  const auto expected = cpu().linear(parts);
  for (const int threads : {1, 5, 16}) {
    CpuUnderTest other(GetParam(), threads);
    const auto actual = other.cpu.linear(parts);
    for (size_t p = 0; p < parts.size(); ++p) EXPECT_EQ(values_of(actual[p]), values_of(expected[p])) << threads;
  }
}

TEST_P(CpuInt8Test, ARowsResultDoesNotDependOnItsNeighbours) {
  const Linear layer = tolerant(WeightFormat::f32, {100}, 500, 3);
  const Tensor x = random_normal({300, 500}, 1);
  const Tensor all = cpu().linear(x, layer);
  for (const int64_t row : {0, 150, 299})
    EXPECT_EQ(values_of(cpu().linear(x.rows(row, row + 1), layer)), values_of(all.rows(row, row + 1))) << row;
}

TEST_P(CpuInt8Test, NaNAndInfinityStayInTheirRow) {
  const Linear layer = tolerant(WeightFormat::f32, {50}, 40, 3);
  for (const float broken : {NAN, INFINITY}) {
    Tensor x = random_normal({20, 40}, 1);
    x.data<float>()[7 * 40 + 3] = broken;
    const Tensor y = cpu().linear(x, layer);
    for (int64_t row = 0; row < 20; ++row)
      for (const float v : values_of(y.rows(row, row + 1))) EXPECT_EQ(!std::isfinite(v), row == 7);
  }
}

TEST_P(CpuInt8Test, KeptWeightsGiveTheSameNumbers) {
  ThreadPool pool(3);
  for (const LinearSize& size : kSizes)
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::affine4}) {
      if (size.in % random_unit(format) != 0) continue;
      Linear layer = tolerant(format, size.outs, size.in, 3), again = tolerant(format, size.outs, size.in, 3);
      add_branches(layer, 2);
      add_branches(again, 2);
      CpuKernels kernels(pool, GetParam().vector(), &GetParam().int8(), kKept);
      const std::unique_ptr<Device> memory = make_reference_device();
      Ops keeping(*memory, kernels);
      const Tensor x = random_normal({size.rows, size.in}, 1);
      const auto expected = values_of(cpu().linear(x, again));
      EXPECT_EQ(values_of(keeping.linear(x, layer)), expected);
      EXPECT_GT(kernels.kept_bytes(), 0u);
      Slab& slab = layer.slabs[0];
      for (const Weight* weight : {&slab.weight, &slab.branches[0].down, &slab.branches[1].up})
        std::memset(weight->data.data<void>(), 0, weight->data.bytes());
      EXPECT_EQ(values_of(keeping.linear(x, layer)), expected) << "not read again";
    }
}

TEST_P(CpuInt8Test, KeepsNoMoreThanItMayAndNothingOfFreedLayers) {
  ThreadPool pool(2);
  CpuKernels kernels(pool, GetParam().vector(), &GetParam().int8(), kKept);
  const std::unique_ptr<Device> memory = make_reference_device();
  Ops ops(*memory, kernels);
  const Tensor x = random_normal({3, 512}, 1);
  {
    std::vector<Linear> layers;
    for (uint64_t seed = 0; seed < 12; ++seed) {
      layers.push_back(tolerant(WeightFormat::f32, {1024}, 512, seed));
      ops.linear(x, layers.back());
      EXPECT_LE(kernels.kept_bytes(), kKept);
    }
    EXPECT_GT(kernels.kept_bytes(), kKept / 2);
  }
  EXPECT_EQ(kernels.kept_bytes(), 0u);
}

/// What would be kept of layers beyond what must be, if there was room for kKept bytes.
size_t kept_by_choice(const CpuKernels& kernels, std::span<const Linear* const> layers) {
  return kernels.kept_of(layers, {kKept, kKept}).bytes - kernels.kept_of(layers, {}).bytes;
}

TEST_P(CpuInt8Test, KeepsNoWeightsOfLayersThatAreSeldomUsed) {
  ThreadPool pool(2);
  CpuKernels kernels(pool, GetParam().vector(), &GetParam().int8(), kKept);
  const std::unique_ptr<Device> memory = make_reference_device();
  Ops ops(*memory, kernels);
  Linear seldom = tolerant(WeightFormat::f32, {1024}, 512, 3);
  seldom.tolerance->often_used = false;
  const Tensor x = random_normal({20, 512}, 1);
  EXPECT_LT(relative_l2(ops.linear(x, seldom), reference().linear(x, seldom)), kMostError);
  EXPECT_EQ(kernels.kept_bytes(), 0u);
  const Linear often = tolerant(WeightFormat::f32, {1024}, 512, 3);
  const std::vector<const Linear*> both = {&seldom, &often};
  EXPECT_GT(kept_by_choice(kernels, both), 0u);
  EXPECT_EQ(kept_by_choice(kernels, std::span(both).first(1)), 0u);
}

// Of 1024 outputs two 64s are looked at.
TEST_P(CpuInt8Test, ASampleOfOutputsTellsWhichChannelsAreLarge) {
  ThreadPool pool(2);
  Linear layer = tolerant(WeightFormat::f32, {1024}, 512, 3);
  for (int64_t o = 0; o < 1024; ++o) layer.slabs[0].weight.data.data<float>()[o * 512 + 70] /= 64;
  const Int8Factors all = int8_factors(layer, pool, GetParam().vector());
  layer.tolerance->often_used = false;
  const Int8Factors sampled = int8_factors(layer, pool, GetParam().vector());
  EXPECT_EQ(all.of_input[70], 1.0f / 64);
  EXPECT_EQ(sampled.of_input, all.of_input);
}

/// Slabs of 8 and of 4 bits in turns, those first, where there are inputs enough for both.
Linear mixed_layer(const std::vector<int64_t>& outs, int64_t in, uint64_t seed, bool small_first = false) {
  Linear layer;
  for (const int64_t out : outs) {
    const uint64_t s = seed + 10 * layer.slabs.size();
    const bool small = MixedOrder::takes_small(out, in) && (layer.slabs.size() % 2 == 0) == small_first;
    layer.slabs.push_back(
        {random_mixed(small ? WeightFormat::affine4 : WeightFormat::affine8, out, in, s), random_normal({out}, s + 5)});
  }
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

const LinearSize kMixedSizes[] = {
    {1, 4, {16}},         {9, 192, {48, 64, 16}}, {17, 384, {96}}, {65, 400, {112, 208}}, {8, 3072, {48}},
    {5, 3460, {32, 144}}, {300, 768, {432, 16}},  {7, 3464, {32}}, {2, 6144, {48, 32}},   {40, 72, {16, 16}}};

// What is in memory in the kernels' order is not rounded again, whatever the order of the instruction set.
TEST_P(CpuInt8Test, WeightsInTheKernelsOrderAreMultipliedAsTheyLie) {
  ThreadPool pool(3);
  for (const LinearSize& size : kMixedSizes)
    for (const auto& [branches, small_first] : {std::pair<size_t, bool>{0, false}, {0, true}, {2, false}, {2, true}}) {
      Linear layer = mixed_layer(size.outs, size.in, 3, small_first);
      if (branches > 0) add_branches(layer, branches);
      const Tensor x = random_normal({size.rows, size.in}, 1);
      const Tensor expected = plain_linear(*device, x, layer);
      EXPECT_LT(relative_l2(cpu().linear(x, layer), expected), 10 * kRounding)
          << fmt::format("{} rows, {} in, {} branches, 4 bits first: {}", size.rows, size.in, branches, small_first);
      CpuKernels kernels(pool, GetParam().vector(), &GetParam().int8(), kKept);
      const std::unique_ptr<Device> memory = make_reference_device();
      layer.tolerance = std::make_shared<Tolerance>();
      const std::vector<const Linear*> layers = {&layer};
      const size_t planned = kept_by_choice(kernels, layers);
      EXPECT_LT(relative_l2(Ops(*memory, kernels).linear(x, layer), expected), 10 * kRounding) << "where some are kept";
      EXPECT_GE(kernels.kept_bytes(), planned);
      EXPECT_EQ(kernels.kept_bytes() == 0, GetParam().int8().reads_mixed && branches == 0);
    }
}

// Blocks are read into the same memory one after the other.
TEST_P(CpuInt8Test, WeightsInTheKernelsOrderMayMove) {
  const Linear layer = mixed_layer({80, 64}, 400, 3);
  const Tensor x = random_normal({40, 400}, 1);
  const auto expected = values_of(cpu().linear(x, layer));
  Linear copy = layer;
  for_each_tensor(copy, [](Tensor& tensor) {
    const Tensor other = host_tensor(tensor.shape(), tensor.dtype());
    std::memcpy(other.data<void>(), tensor.data<void>(), tensor.bytes());
    std::memset(tensor.data<void>(), 0, tensor.bytes());
    tensor = other;
  });
  EXPECT_EQ(values_of(cpu().linear(x, copy)), expected);
}

TEST_P(CpuInt8Test, SlabsWithOtherFactorsAreRoundedTogether) {
  Linear layer = mixed_layer({80, 48}, 400, 3);
  layer.slabs[1].weight = random_mixed(48, 400, 4, 2);
  const Tensor x = random_normal({40, 400}, 1);
  EXPECT_FALSE(has_factors(layer));
  EXPECT_LT(relative_l2(cpu().linear(x, layer), reference().linear(x, layer)), 1.5 * kMostError);
}

TEST_P(CpuInt8Test, WeightsInTheKernelsOrderAreUnpackedForExactProducts) {
  for (const LinearSize& size : kMixedSizes) {
    const Linear layer = strict(mixed_layer(size.outs, size.in, 3));
    Linear dense = layer;
    for (Slab& slab : dense.slabs) slab.weight = unpacked(slab.weight);
    const Tensor x = random_normal({size.rows, size.in}, 1);
    const Tensor expected = reference().linear(x, dense);
    EXPECT_LT(relative_l2(cpu().linear(x, layer), expected), 30 * kRounding) << size.in;
    EXPECT_LT(relative_l2(reference().linear(x, layer), expected), kRounding) << size.in;
  }
}

/// Each instruction set has an order of its own for rounded weights.
TEST_P(CpuInt8Test, AnotherInstructionSetRoundsAnew) {
  ThreadPool pool(2);
  CpuKernels one(pool, GetParam().vector(), &GetParam().int8(), kKept);
  CpuKernels other(pool, vector_ops(Isa::scalar), &int8_ops(Isa::scalar), kKept);
  const std::unique_ptr<Device> memory = make_reference_device();
  Ops ops(*memory, one), others(*memory, other);
  const Linear layer = tolerant(WeightFormat::f32, {80}, 256, 3), same = tolerant(WeightFormat::f32, {80}, 256, 3);
  const Tensor x = random_normal({40, 256}, 1);
  const auto expected = values_of(ops.linear(x, layer));
  const auto expected_of_other = values_of(others.linear(x, same));
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(values_of(others.linear(x, layer)), expected_of_other);
    EXPECT_EQ(values_of(ops.linear(x, layer)), expected);
  }
}

TEST_P(CpuInt8Test, CopiesOfALayerShareItsFactors) {
  const Linear layer = tolerant(WeightFormat::f32, {80}, 256, 3);
  const Tensor x = random_normal({40, 256}, 1);
  const auto expected = values_of(cpu().linear(x, layer));
  Linear copy = layer;
  copy.slabs[0].weight = dense_weight(host_tensor({80, 256}, DType::f32));
  std::copy_n(layer.slabs[0].weight.data.data<float>(), 80 * 256, copy.slabs[0].weight.data.data<float>());
  EXPECT_EQ(values_of(cpu().linear(x, copy)), expected);
  EXPECT_EQ(copy.tolerance->form.get(), layer.tolerance->form.get());
}

}  // namespace
}  // namespace inkstone
