// Products of the cuda device with what follows them inside (Hopper): against the definitions of the ops, for rows,
// outputs and depths that fill no tile, one or two parts, and several sequences. Likewise what takes their place on
// other devices.
#include <gmock/gmock.h>

#include "ops/rounded_on_cuda.h"

namespace inkstone {
namespace {

constexpr double kMostFp8 = 0.037 * 1.3;       // of a product of rounded numbers
constexpr double kMostFp8Twice = 0.047 * 1.3;  // of one whose result is rounded again
constexpr double kMostBf16 = 4 * kNarrowRounding;
constexpr float kEps = 1e-6f;
constexpr int64_t kFusedWidth = 128;  // of heads that a product joins

/// An arithmetic, and whose kernels.
using Way = std::tuple<CudaArithmetic, KernelsOf>;

class CudaFusedTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    const std::string reason = why_no_fp8();  // where there is FP8 there are Hopper's instructions or newer ones
    if (!reason.empty()) GTEST_SKIP() << reason;
    cuda_ = make_cuda_device({.arithmetic = std::get<CudaArithmetic>(GetParam()), .ampere_kernels = !is_fused()});
    ops_.emplace(*cuda_);
  }

  bool rounds() const { return std::get<CudaArithmetic>(GetParam()) == CudaArithmetic::fp8; }
  bool is_fused() const { return std::get<KernelsOf>(GetParam()) == KernelsOf::its_own; }
  double allowed() const { return rounds() ? kMostFp8 : kMostBf16; }
  Device& device() { return *cuda_; }
  Ops& ops() { return *ops_; }
  Ops& reference() { return reference_; }
  Tensor upload(const Tensor& host) { return host ? cuda_->upload(host) : host; }
  Tensor download(const Tensor& t) { return to_f32(cuda_->download(t)); }

  /// A layer on the device, which must outlive what waits for it.
  const Linear& placed(const Linear& host) {
    Linear& layer = layers_.emplace_back(host);
    for_each_tensor(layer, [&](Tensor& tensor) { tensor = upload(tensor); });
    layer.tolerance = std::make_shared<Tolerance>();
    if (rounds()) cuda_->round_weights(layer);
    return layer;
  }
  LinearPart placed(const LinearPart& host) {
    LinearPart part = host;
    part.layer = &placed(*host.layer);
    for (Tensor* t : {&part.x, &part.epilogue.residual, &part.epilogue.gate.table, &part.epilogue.gate.row})
      *t = upload(*t);
    return part;
  }
  std::vector<LinearPart> placed(const std::vector<LinearPart>& parts) {
    std::vector<LinearPart> there;
    for (const LinearPart& part : parts) there.push_back(placed(part));
    return there;
  }
  /// A result that feeds a layer: bf16, or codes with scales behind them.
  Tensor numbers_of(const Tensor& t) {
    if (t.dtype() != DType::f8_e4m3) return download(t);
    const int64_t n = t.dim(0), d = t.dim(1);
    const Tensor scales = download({t.buffer(), t.offset() + t.bytes(), {n, 1}, DType::f32});
    return dense({WeightFormat::f8_e4m3, n, d, cuda_->download(t), scales, {}, d});
  }

 private:
  std::unique_ptr<Device> cuda_, host_ = make_reference_device();
  std::optional<Ops> ops_;
  Ops reference_{*host_};
  std::deque<Linear> layers_;
};

std::string name_of(const Way& way) {
  const char* kernels = std::get<KernelsOf>(way) == KernelsOf::ampere ? "_by_ampere_kernels" : "";
  return (std::get<CudaArithmetic>(way) == CudaArithmetic::fp8 ? "fp8" : "bf16") + std::string(kernels);
}

INSTANTIATE_TEST_SUITE_P(Arithmetic, CudaFusedTest,
                         testing::Combine(testing::Values(CudaArithmetic::bf16, CudaArithmetic::fp8),
                                          testing::Values(KernelsOf::its_own, KernelsOf::ampere)),
                         [](const auto& one) { return name_of(one.param); });

struct Size {
  std::vector<int64_t> rows;  // of each part
  int64_t in, out;
};
const Size kSizes[] = {{{512}, 64, 32}, {{700, 3}, 96, 288}, {{1, 1025}, 272, 512}, {{640, 129}, 48, 800}};

TEST_P(CudaFusedTest, GateAndResidualOfEverySequence) {
  for (const Size& size : kSizes) {
    std::deque<Sequences> sequences;
    std::deque<Linear> layers;
    std::vector<LinearPart> parts;
    for (const int64_t n : size.rows) {
      const uint64_t seed = 20 * parts.size();
      const Sequences& s = n < 100 ? sequences.emplace_back(std::vector<int64_t>{n})
                                   : sequences.emplace_back(std::vector<int64_t>{70, 0, 1, n - 71});
      layers.push_back(tolerant(WeightFormat::bf16, {size.out}, size.in, seed + 1));
      LinearPart& part = parts.emplace_back();
      part.x = random_normal({n, size.in}, seed + 2);
      part.layer = &layers.back();
      part.epilogue.gate = {random_normal({24, size.out}, seed + 3), random_indices(s.count(), 18, seed + 4), 5, &s};
      part.epilogue.residual = random_normal({n, size.out}, seed + 5);
    }
    const auto actual = ops().linear(placed(parts)), expected = reference().linear(parts);
    for (size_t p = 0; p < parts.size(); ++p)
      EXPECT_LT(relative_l2(download(actual[p]), expected[p]), allowed()) << size.in << " -> " << size.out;
  }
}

TEST_P(CudaFusedTest, WhatFeedsALayerIsWrittenInItsForm) {
  for (const Size& size : kSizes) {
    std::deque<Linear> layers;
    std::vector<LinearPart> parts, there;
    for (const int64_t n : size.rows) {
      const uint64_t seed = 20 * parts.size();
      layers.push_back(tolerant(WeightFormat::bf16, {size.out}, size.in, seed + 1));
      const Linear& up = layers.back();
      layers.push_back(tolerant(WeightFormat::bf16, {64}, size.out, seed + 2));
      parts.push_back({random_normal({n, size.in}, seed + 3), &up, {.activation = Activation::gelu_tanh}});
      there.push_back(placed(parts.back()));
      there.back().epilogue.feeds = &placed(layers.back());
    }
    const auto actual = ops().linear(there), expected = reference().linear(parts);
    for (size_t p = 0; p < parts.size(); ++p) {
      EXPECT_EQ(actual[p].dtype(), rounds() ? DType::f8_e4m3 : DType::bf16);
      EXPECT_LT(relative_l2(numbers_of(actual[p]), expected[p]), rounds() ? kMostFp8Twice : kMostBf16)
          << size.in << " -> " << size.out << ", part " << p;
    }
  }
}

/// Rows of very different sizes, and one of zeros: the bound of a row is its own, and saturates nothing.
TEST_P(CudaFusedTest, BoundsOfRowsHoldWhateverTheirSize) {
  const Linear up = tolerant(WeightFormat::bf16, {256}, 256, 1), down = tolerant(WeightFormat::bf16, {64}, 256, 2);
  Tensor x = random_normal({512, 256}, 3);
  for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] *= std::ldexp(1.0f, static_cast<int>(i / 256) % 24 - 8);
  std::fill_n(x.data<float>() + 9 * 256, 256, 0.0f);
  x.data<float>()[11 * 256 + 5] = NAN;
  LinearPart part = placed({x, &up, {.activation = Activation::gelu_tanh}});
  part.epilogue.feeds = &placed(down);
  const Tensor actual = numbers_of(ops().linear({part})[0]);
  const Tensor expected = reference().linear(x, up, {.activation = Activation::gelu_tanh});
  for (int64_t row = 0; row < 512; ++row) {
    const Tensor got = actual.rows(row, row + 1), wanted = expected.rows(row, row + 1);
    if (row == 11) {
      EXPECT_TRUE(std::ranges::all_of(got.span<const float>(), [](float v) { return std::isnan(v); }));
    } else {
      EXPECT_LT(relative_l2(got, wanted), 2 * kMostFp8Twice) << row;
    }
  }
}

struct Join {
  Heads heads;
  std::vector<std::vector<int64_t>> lengths;
  bool norm, rope;
  RopeTable::Pairs pairs = RopeTable::Pairs::neighbours;
};
const Join kJoins[] = {{{2, 2, 128}, {{600}}, true, true},
                       {{2, 2, 128}, {{5, 0, 20}, {300, 1, 299}}, true, true},
                       {{4, 2, 128}, {{64}, {1000}}, true, false},
                       {{3, 1, 128}, {{1}, {513}}, false, true},
                       // Other heads, and pairs of the text encoder's, are joined by a pass.
                       {{4, 4, 64}, {{7}, {530}}, true, true},
                       {{4, 2, 128}, {{600}}, false, true, RopeTable::Pairs::halves}};

TEST_P(CudaFusedTest, QueriesKeysAndValuesAreNormedTurnedAndJoined) {
  for (const Join& join : kJoins) {
    const Heads& h = join.heads;
    std::deque<Sequences> sequences;
    std::deque<Linear> layers;
    std::vector<LinearPart> parts;
    std::vector<QkvPart> joins;
    for (const auto& lengths : join.lengths) {
      const uint64_t seed = 20 * parts.size();
      const Sequences& s = sequences.emplace_back(lengths);
      layers.push_back(
          tolerant(WeightFormat::bf16, {h.heads * h.width, h.kv_heads * h.width, h.kv_heads * h.width}, 96, seed + 1));
      parts.push_back({random_normal({s.rows(), 96}, seed + 2), &layers.back()});
      QkvPart part = {{}, &s};
      if (join.norm) part.q_norm = random_normal({h.width}, seed + 3), part.k_norm = random_normal({h.width}, seed + 4);
      if (join.rope) part.rope = {random_normal({s.rows(), h.width / 2, 2}, seed + 5), join.pairs};
      joins.push_back(part);
    }
    std::vector<QkvPart> here = joins, there = joins;
    const auto wanted = reference().linear(parts), got = ops().linear(placed(parts));
    for (size_t p = 0; p < parts.size(); ++p) {
      here[p].qkv = wanted[p];
      there[p].qkv = got[p];
      for (Tensor* t : {&there[p].q_norm, &there[p].k_norm, &there[p].rope.cos_sin}) *t = upload(*t);
    }
    const Qkv expected = reference().join_qkv(here, h, kEps), actual = ops().join_qkv(there, h, kEps);
    EXPECT_LT(relative_l2(download(actual.q), expected.q), allowed()) << h.heads;
    EXPECT_LT(relative_l2(download(actual.k), expected.k), allowed()) << h.heads;
    EXPECT_LT(relative_l2(download(actual.v), expected.v), allowed()) << h.heads;
  }
}

TEST_P(CudaFusedTest, AProductThatWaitsForItsJoinIsThereForOthers) {
  const Linear layer = tolerant(WeightFormat::bf16, {128, 128, 128}, 96, 1);
  const Tensor x = random_normal({600, 96}, 2);
  const Tensor expected = reference().linear(x, layer);
  const LinearPart part = placed({x, &layer});
  EXPECT_LT(relative_l2(download(ops().linear({part})[0]), expected), allowed());
  const Tensor first = ops().linear({part})[0], second = ops().linear({part})[0];
  EXPECT_LT(relative_l2(download(first), expected), allowed());
  EXPECT_LT(relative_l2(download(second), expected), allowed());
}

/// As after a call that was stopped in between: its layers are gone.
TEST_P(CudaFusedTest, AProductThatWaitsForItsJoinOutlivesItsLayer) {
  const Linear host = tolerant(WeightFormat::bf16, {128, 128, 128}, 96, 1);
  const Tensor x = random_normal({600, 96}, 2);
  Linear layer = placed(host);
  const Tensor out = ops().linear({{upload(x), &layer}})[0];
  layer = {};
  EXPECT_LT(relative_l2(download(out), reference().linear(x, host)), allowed());
}

TEST_P(CudaFusedTest, WhatWaitsForAJoinIsForgottenWhenTheNextCallBegins) {
  if (!is_fused()) GTEST_SKIP() << "nothing waits";
  const Linear& layer = placed(tolerant(WeightFormat::bf16, {128, 128, 128}, 96, 1));
  const size_t before = device().memory().current;
  {
    const LinearPart part = {upload(random_normal({600, 96}, 2)), &layer};
    ops().linear({part});
  }
  EXPECT_GT(device().memory().current, before);
  device().watch({});
  EXPECT_EQ(device().memory().current, before);
}

TEST_P(CudaFusedTest, GivesTheSameNumbersTwice) {
  const Linear up = tolerant(WeightFormat::bf16, {512}, 768, 1), down = tolerant(WeightFormat::bf16, {64}, 512, 2);
  LinearPart part = placed({random_normal({1500, 768}, 3), &up, {.activation = Activation::gelu_tanh}});
  part.epilogue.feeds = &placed(down);
  EXPECT_EQ(values_of(numbers_of(ops().linear({part})[0])), values_of(numbers_of(ops().linear({part})[0])));
}

// More pairs of tiles than the GPU has pairs of multiprocessors, more rows than a group of pairs, and depths that go
// round the ring of stages: every block goes from tile to tile. Only some rows are computed by the definitions.
constexpr int64_t kLargeRows[] = {80, 2300};
constexpr int64_t kLargeIn = 768, kLargeHeads = 12;

/// Of each part: its first and last rows, and some between.
std::vector<int64_t> sampled(int64_t rows) {
  std::vector<int64_t> which;
  for (int64_t row = 0; row < rows; row += 29) which.push_back(row);
  which.push_back(rows - 1);
  return which;
}

Tensor rows_of(const Tensor& f32, const std::vector<int64_t>& which) {
  const Tensor some = host_tensor(f32.shape().with_first(static_cast<int64_t>(which.size())), DType::f32);
  const int64_t row = f32.count() / f32.dim(0);
  for (size_t i = 0; i < which.size(); ++i)
    std::copy_n(f32.data<float>() + which[i] * row, row, some.data<float>() + static_cast<int64_t>(i) * row);
  return some;
}

TEST_P(CudaFusedTest, LargeProductsGateAndAdd) {
  std::deque<Sequences> sequences;
  std::deque<Linear> layers;
  std::vector<LinearPart> parts, some;
  for (const int64_t n : kLargeRows) {
    const uint64_t seed = 20 * parts.size();
    constexpr int64_t kOut = 3072;
    layers.push_back(tolerant(WeightFormat::bf16, {kOut}, kLargeIn, seed + 1));
    LinearPart& part = parts.emplace_back();
    part.x = random_normal({n, kLargeIn}, seed + 2);
    part.layer = &layers.back();
    part.epilogue.gate = {random_normal({6, kOut}, seed + 3), random_indices(1, 1, seed + 4), 5,
                          &sequences.emplace_back(std::vector<int64_t>{n})};
    part.epilogue.residual = random_normal({n, kOut}, seed + 5);
    const std::vector<int64_t> which = sampled(n);
    LinearPart& rows = some.emplace_back(part);
    rows.x = rows_of(part.x, which);
    rows.epilogue.gate.sequences = &sequences.emplace_back(std::vector<int64_t>{rows.x.dim(0)});
    rows.epilogue.residual = rows_of(part.epilogue.residual, which);
  }
  const auto actual = ops().linear(placed(parts)), expected = reference().linear(some);
  for (size_t p = 0; p < parts.size(); ++p)
    EXPECT_LT(relative_l2(rows_of(download(actual[p]), sampled(kLargeRows[p])), expected[p]), allowed()) << p;
}

TEST_P(CudaFusedTest, LargeProductsFeedALayer) {
  std::deque<Linear> layers;
  std::vector<LinearPart> some, there;
  for (const int64_t n : kLargeRows) {
    const uint64_t seed = 20 * some.size();
    layers.push_back(tolerant(WeightFormat::bf16, {4096}, kLargeIn, seed + 1));
    const Linear& up = layers.back();
    layers.push_back(tolerant(WeightFormat::bf16, {64}, 4096, seed + 2));
    const Tensor x = random_normal({n, kLargeIn}, seed + 3);
    some.push_back({rows_of(x, sampled(n)), &up, {.activation = Activation::gelu_tanh}});
    there.push_back(placed({x, &up, {.activation = Activation::gelu_tanh}}));
    there.back().epilogue.feeds = &placed(layers.back());
  }
  const auto actual = ops().linear(there), expected = reference().linear(some);
  for (size_t p = 0; p < some.size(); ++p)
    EXPECT_LT(relative_l2(rows_of(numbers_of(actual[p]), sampled(kLargeRows[p])), expected[p]),
              rounds() ? kMostFp8Twice : kMostBf16)
        << p;
}

TEST_P(CudaFusedTest, LargeProductsAreNormedTurnedAndJoined) {
  const Heads heads = {kLargeHeads, kLargeHeads, kFusedWidth};
  const int64_t outs = heads.heads * heads.width;
  std::deque<Sequences> sequences;
  std::deque<Linear> layers;
  std::vector<LinearPart> parts, some;
  std::vector<QkvPart> joins, some_joins;
  std::vector<int64_t> which;  // of the joined rows
  for (const int64_t n : kLargeRows) {
    const uint64_t seed = 20 * parts.size();
    const std::vector<int64_t> here = sampled(n);
    for (const int64_t row : here) which.push_back(sequences.empty() ? row : row + kLargeRows[0]);
    layers.push_back(tolerant(WeightFormat::bf16, {outs, outs, outs}, kLargeIn, seed + 1));
    parts.push_back({random_normal({n, kLargeIn}, seed + 2), &layers.back()});
    some.push_back({rows_of(parts.back().x, here), &layers.back()});
    QkvPart& join = joins.emplace_back(QkvPart{{}, &sequences.emplace_back(std::vector<int64_t>{n})});
    join.q_norm = random_normal({heads.width}, seed + 3);
    join.k_norm = random_normal({heads.width}, seed + 4);
    join.rope.cos_sin = random_normal({n, heads.width / 2, 2}, seed + 5);
    QkvPart& rows = some_joins.emplace_back(join);
    rows.sequences = &sequences.emplace_back(std::vector<int64_t>{static_cast<int64_t>(here.size())});
    rows.rope.cos_sin = rows_of(join.rope.cos_sin, here);
  }
  const auto wanted = reference().linear(some), got = ops().linear(placed(parts));
  for (size_t p = 0; p < parts.size(); ++p) {
    some_joins[p].qkv = wanted[p];
    joins[p].qkv = got[p];
    for (Tensor* t : {&joins[p].q_norm, &joins[p].k_norm, &joins[p].rope.cos_sin}) *t = upload(*t);
  }
  const Qkv expected = reference().join_qkv(some_joins, heads, kEps), actual = ops().join_qkv(joins, heads, kEps);
  EXPECT_LT(relative_l2(rows_of(download(actual.q), which), expected.q), allowed());
  EXPECT_LT(relative_l2(rows_of(download(actual.k), which), expected.k), allowed());
  EXPECT_LT(relative_l2(rows_of(download(actual.v), which), expected.v), allowed());
}

/// What stands before such a layer in the transformer: bf16, or what a norm rounded for it.
TEST_P(CudaFusedTest, ReadsRowsInTheFormsThatOpsGive) {
  const Linear layer = tolerant(WeightFormat::bf16, {512}, 768, 1);
  LinearPart part;
  part.x = as_bf16(random_normal({600, 768}, 2));
  part.layer = &layer;
  part.epilogue.residual = random_normal({600, 512}, 3);
  const Sequences all(std::vector<int64_t>{600});
  part.epilogue.gate = {random_normal({2, 512}, 4), random_indices(1, 2, 5), 0, &all};
  LinearPart widened = part;
  widened.x = to_f32(part.x);
  EXPECT_LT(relative_l2(download(ops().linear({placed(part)})[0]), reference().linear({widened})[0]), allowed());

  ModulatePart norm = {widened.x,
                       {random_normal({1, 768}, 6), random_indices(1, 1, 7), 0, &all},
                       {random_normal({1, 768}, 8), random_indices(1, 1, 7), 0, &all}};
  widened.x = reference().layer_norm_modulate({norm}, kEps)[0];
  LinearPart normed = placed(part);
  norm.feeds = normed.layer;
  for (Tensor* t : {&norm.x, &norm.shift.table, &norm.shift.row, &norm.scale.table, &norm.scale.row}) *t = upload(*t);
  normed.x = ops().layer_norm_modulate({norm}, kEps)[0];
  EXPECT_EQ(normed.x.dtype(), rounds() ? DType::f8_e4m3 : DType::bf16);
  EXPECT_LT(relative_l2(download(ops().linear({normed})[0]), reference().linear({widened})[0]), allowed());
}

TEST_P(CudaFusedTest, WeightsOfEveryFormatAreExpandedAhead) {
  for (const WeightFormat format : every_weight_format()) {
    const Linear up = tolerant(format, {96}, 512, 1), down = tolerant(WeightFormat::bf16, {64}, 96, 2);
    LinearPart part = {random_normal({513, 512}, 3), &up, {.activation = Activation::gelu_tanh}};
    const Tensor expected = reference().linear({part})[0];
    LinearPart there = placed(part);
    there.epilogue.feeds = &placed(down);
    EXPECT_LT(relative_l2(numbers_of(ops().linear({there})[0]), expected), rounds() ? kMostFp8Twice : kMostBf16)
        << layout_of(format).name;
  }
}

}  // namespace
}  // namespace inkstone
