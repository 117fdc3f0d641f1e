// Attention in 8 bits: against the same as plain loops, and against f32 for what rounding costs.
#include <cmath>
#include <gmock/gmock.h>

#include "cpu/int8_attention_ops.h"
#include "ops/attention_problem.h"
#include "ops/cpu_under_test.h"

namespace inkstone {
namespace {

Linear tolerant_layer(int64_t out, int64_t in) {
  Linear layer = random_layer(WeightFormat::bf16, out, in, 9);
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

constexpr AttentionOptions kTolerant = {.tolerant = true};

// Weights are off by up to 1e-4 before they are rounded: one in forty falls on the other side, by a 255th of the
// greatest, which few keys do not even out.
constexpr double kOtherSide = 2e-3;

class CpuInt8AttentionTest : public CpuInt8Fixture {
 protected:
  void SetUp() override {
    CpuInt8Fixture::SetUp();
    if (!IsSkipped() && int8_attention_ops(GetParam().int8()) == nullptr) GTEST_SKIP() << "attends in f32";
  }
};
INKSTONE_FOR_EVERY_ISA_PAIR(CpuInt8AttentionTest);

// Panels hold 8 to 48 queries, blocks 128 keys, tiles 6 or 8 keys and channels; steps of products take 4 numbers.
const AttentionProblem kProblems[] = {
    {"one row", {{1}}, {2, 2, 64}},
    {"one more than a panel, odd keys", {{49}}, {1, 1, 16}},
    {"two vectors of queries", {{27}}, {1, 1, 128}},
    {"one less than a block of keys", {{127}}, {1, 1, 20}},
    {"two blocks and one key", {{257}}, {2, 2, 64}},
    {"widths that no tile divides", {{70}}, {2, 1, 6}},
    {"heads of the transformer, two branches", {{7, 64}, {321, 250}}, {2, 2, 128}},
    {"a wide head", {{300}}, {1, 1, 384}},
    {"more queries than a task", {{1000}}, {1, 1, 32}},
    {"three streams, uneven", {{3, 0, 50}, {1, 2, 3}, {90, 1, 7}}, {2, 2, 20}},
    {"one key head", {{65, 3}}, {6, 1, 64}},
    {"scores up to 300", {{280}}, {2, 2, 64}, false, 6},
};

/// Numbers that share a scale, rounded: code times scale.
void round_together(std::vector<float*> numbers) {
  float greatest = 0;
  for (const float* x : numbers) greatest = std::max(greatest, std::abs(*x));
  const float scale = greatest / 127, inverse = greatest > 0 ? 127 / greatest : 0;
  for (float* x : numbers) *x = std::nearbyint(*x * inverse) * scale;
}

void round_rows(const Tensor& t) {
  for (int64_t row = 0; row < t.dim(0) * t.dim(1); ++row) {
    std::vector<float*> numbers;
    for (int64_t i = 0; i < t.dim(2); ++i) numbers.push_back(t.data<float>() + row * t.dim(2) + i);
    round_together(numbers);
  }
}

/// Every channel of a head, of the rows [begin, end).
void round_channels(const Tensor& t, int64_t begin, int64_t end) {
  const int64_t channels = t.dim(1) * t.dim(2);
  for (int64_t channel = 0; channel < channels; ++channel) {
    std::vector<float*> numbers;
    for (int64_t row = begin; row < end; ++row) numbers.push_back(t.data<float>() + row * channels + channel);
    round_together(numbers);
  }
}

/// What is counted in whole numbers is relative to the greatest of a block.
std::vector<double> plain_weights(const std::vector<double>& scores) {
  std::vector<double> weights;
  const double all = *std::max_element(scores.begin(), scores.end());
  for (size_t begin = 0; begin < scores.size(); begin += kInt8Keys) {
    const size_t end = std::min(scores.size(), begin + kInt8Keys);
    const double most =
        *std::max_element(scores.begin() + static_cast<int64_t>(begin), scores.begin() + static_cast<int64_t>(end));
    for (size_t i = begin; i < end; ++i)
      weights.push_back(std::nearbyint(kInt8GreatestWeight * std::exp(scores[i] - most)) * std::exp(most - all));
  }
  return weights;
}

/// Takes the mean of some of the rows [begin, end) off them: (channels).
std::vector<float> take_mean(const Tensor& t, int64_t begin, int64_t end) {
  const int64_t channels = t.dim(1) * t.dim(2), step = std::max<int64_t>(1, (end - begin) / kInt8MeanRows);
  std::vector<float> means;
  for (int64_t channel = 0; channel < channels; ++channel) {
    float* column = t.data<float>() + channel;
    float sum = 0, rows = 0;
    for (int64_t row = begin; row < end; row += step, ++rows) sum += column[row * channels];
    means.push_back(sum / rows);
    for (int64_t row = begin; row < end; ++row) column[row * channels] -= means.back();
  }
  return means;
}

/// Results in the order of the joined rows: (n, heads * c).
std::vector<float> plain_attention(Qkv in) {
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), width = in.q.dim(2);
  for (int64_t s = 0; s < in.sequences.count(); ++s) take_mean(in.k, in.sequences.begin(s), in.sequences.end(s));
  round_rows(in.q);
  round_rows(in.k);
  std::vector<float> out;
  for (int64_t s = 0; s < in.sequences.count(); ++s) {
    const int64_t begin = in.sequences.begin(s), end = in.sequences.end(s);
    const std::vector<float> mean = take_mean(in.v, begin, end);
    for (int64_t block = begin; block < end; block += kInt8Keys)
      round_channels(in.v, block, std::min(end, block + kInt8Keys));
    for (int64_t query = begin; query < end; ++query)
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t kv_head = head / (heads / kv_heads);
        const float* q = in.q.data<float>() + (query * heads + head) * width;
        const auto row_of = [&](const Tensor& t, int64_t key) {
          return t.data<float>() + (key * kv_heads + kv_head) * width;
        };
        std::vector<double> scores;
        for (int64_t key = begin; key < end; ++key) {
          double score = 0;
          for (int64_t i = 0; i < width; ++i) score += static_cast<double>(q[i]) * row_of(in.k, key)[i];
          scores.push_back(score / std::sqrt(static_cast<double>(width)));
        }
        const std::vector<double> weights = plain_weights(scores);
        for (int64_t i = 0; i < width; ++i) {
          double sum = 0, all = 0;
          for (int64_t key = begin; key < end; ++key) {
            const double weight = weights[static_cast<size_t>(key - begin)];
            sum += weight * row_of(in.v, key)[i];
            all += weight;
          }
          out.push_back(static_cast<float>(sum / all + mean[static_cast<size_t>(kv_head * width + i)]));
        }
      }
  }
  return out;
}

/// The streams' results in the order of the joined rows.
Tensor joined(const Qkv& in, const std::vector<Tensor>& streams) {
  const Tensor all = host_tensor({in.q.dim(0), streams[0].dim(1)}, DType::f32);
  float* to = all.data<float>();
  for (int64_t s = 0; s < in.sequences.count(); ++s)
    for (size_t p = 0; p < streams.size(); ++p) {
      const Sequences& rows = in.sequences.streams[p];
      const auto part = values_of(streams[p].rows(rows.begin(s), rows.end(s)));
      to = std::copy(part.begin(), part.end(), to);
    }
  return all;
}

TEST_P(CpuInt8AttentionTest, EqualsPlainLoops) {
  for (const AttentionProblem& problem : kProblems) {
    const Qkv in = random_qkv(problem);
    const Tensor actual = joined(in, cpu().attention(in, kTolerant));
    const std::vector<float> plain = plain_attention(random_qkv(problem));
    EXPECT_LT(relative_l2(actual, host_tensor(plain).reshape(actual.shape())), kOtherSide) << problem.what;
  }
}

// Scores are off by about 1 % of the lengths of q and k, and the weights by that and a 500th of the greatest.
TEST_P(CpuInt8AttentionTest, RoundingCostsWhatItMust) {
  const Qkv in = random_qkv({"", {{60}, {1000}}, {2, 2, 128}});
  const Tensor exact = joined(in, reference().attention(in, kTolerant));
  const double error = relative_l2(joined(in, cpu().attention(in, kTolerant)), exact);
  EXPECT_GT(error, 1e-3);
  EXPECT_LT(error, 0.02);
  EXPECT_LT(relative_l2(joined(in, cpu().attention(in)), exact), 50 * kRounding) << "what is not tolerant";
}

TEST_P(CpuInt8AttentionTest, WhatAllKeysAndValuesShareCostsNothing) {
  const Qkv in = random_qkv({"", {{60}, {500}}, {2, 2, 64}});
  const Tensor exact = joined(in, reference().attention(in));
  const auto shared = [](int64_t i) { return 64.0f * static_cast<float>(i % 64 % 5 - 2); };  // the same for each head
  for (const Tensor* t : {&in.k, &in.v})
    for (int64_t i = 0; i < t->count(); ++i) t->data<float>()[i] += shared(i);
  const Tensor actual = joined(in, cpu().attention(in, kTolerant));
  for (int64_t i = 0; i < actual.count(); ++i) actual.data<float>()[i] -= shared(i);
  EXPECT_LT(relative_l2(actual, exact), 0.02) << "as without it";
}

TEST_P(CpuInt8AttentionTest, CausalOnesStayExact) {
  const Qkv in = random_qkv({"", {{150}}, {2, 1, 64}});
  const AttentionOptions causal = {.causal = true, .tolerant = true};
  EXPECT_LT(relative_l2(cpu().attention(in, causal)[0], reference().attention(in, causal)[0]), 50 * kRounding);
}

TEST_P(CpuInt8AttentionTest, LaterKeysMayOutweighTheFirstBlockByAnyFactor) {
  for (const float factor : {30.0f, 300.0f, -300.0f, 1e6f}) {
    Qkv in = random_qkv({"", {{140}}, {1, 1, 16}});
    for (float& x : in.q.span<float>()) x = 1;
    for (float& x : in.k.span<float>()) x = 0;
    const int64_t special = 133;
    for (int64_t j = 0; j < 16; ++j) in.k.data<float>()[special * 16 + j] = factor / 4;  // score = factor
    // Values are off by half a step, a 127th of the greatest.
    EXPECT_LT(relative_l2(cpu().attention(in, kTolerant)[0], reference().attention(in)[0]), 0.02) << factor;
  }
}

TEST_P(CpuInt8AttentionTest, NaNStaysInItsSequence) {
  const AttentionProblem problem = {"", {{20, 9, 30}, {40, 5, 270}}, {2, 2, 20}};
  const auto expected = cpu().attention(random_qkv(problem), kTolerant);
  for (const bool whole : {true, false})
    for (const float broken : {NAN, INFINITY})
      for (const auto part : {&Qkv::q, &Qkv::k, &Qkv::v}) {
        Qkv in = random_qkv(problem);
        const int64_t begin = in.sequences.begin(1), end = whole ? in.sequences.end(1) : begin + 1;
        for (float& x : (in.*part).rows(begin, end).span<float>()) x = broken;
        const auto actual = cpu().attention(in, kTolerant);
        for (size_t p = 0; p < 2; ++p) {
          const Sequences& s = in.sequences.streams[p];
          for (const int64_t other : {0, 2})
            EXPECT_EQ(values_of(actual[p].rows(s.begin(other), s.end(other))),
                      values_of(expected[p].rows(s.begin(other), s.end(other))));
          const int64_t last = whole || part != &Qkv::q ? s.end(1) : s.begin(1) + (p == 0 ? 1 : 0);
          EXPECT_THAT(values_of(actual[p].rows(s.begin(1), last)), testing::Each(testing::IsNan()));
        }
      }
}

// Groups of codes hold several heads, the last one what is left; where they cut heads, and where a stream feeds
// nothing, results stay f32.
TEST_P(CpuInt8AttentionTest, WhatFeedsALayerIsRoundedAsTheLayerRounds) {
  struct Case {
    AttentionProblem problem;
    bool codes;
  };
  const Case cases[] = {{{"heads of the transformer", {{7, 64}, {321, 250}}, {6, 2, 128}}, true},
                        {{"a last group of one head", {{200}, {33}}, {7, 7, 64}}, true},
                        {{"less than a group", {{300}, {200}}, {3, 3, 64}}, true},
                        {{"a wide head", {{300}, {1}}, {2, 2, 384}}, true},
                        {{"groups that cut heads", {{200}, {100}}, {3, 3, 20}}, false},
                        {{"too few tasks for two workers", {{30}, {20}}, {3, 3, 64}}, false}};
  for (const auto& [problem, codes] : cases) {
    const Qkv in = random_qkv(problem);
    const int64_t d = in.q.dim(1) * in.q.dim(2);
    const Linear layer = tolerant_layer(5, d);
    const Linear* both[] = {&layer, &layer};
    const Linear* second[] = {nullptr, &layer};
    const auto expected = cpu().attention(in, kTolerant);
    const auto rounded = cpu().attention(in, {.tolerant = true, .feeds = both});
    const auto half = cpu().attention(in, {.tolerant = true, .feeds = second});
    EXPECT_EQ(rounded[0].dtype(), codes ? DType::i8 : DType::f32) << problem.what;
    EXPECT_EQ(rounded[1].dtype(), rounded[0].dtype()) << problem.what;
    EXPECT_EQ(values_of(half[0]), values_of(expected[0])) << problem.what;
    for (size_t p = 0; p < 2; ++p) {
      const auto y = values_of(cpu().linear(expected[p], layer));
      EXPECT_EQ(values_of(cpu().linear(rounded[p], layer)), y) << problem.what;
      EXPECT_EQ(values_of(cpu().linear(half[p], layer)), y) << problem.what;
    }
  }
}

TEST_P(CpuInt8AttentionTest, EqualsItselfWithAnyNumberOfThreads) {
  for (const AttentionProblem& problem : kProblems) {
    const Qkv in = random_qkv(problem);
    const auto expected = values_of(joined(in, cpu().attention(in, kTolerant)));
    for (const int threads : {1, 5}) {
      CpuUnderTest other(GetParam(), threads);
      EXPECT_EQ(values_of(joined(in, other.cpu.attention(in, kTolerant))), expected) << problem.what;
    }
  }
}

}  // namespace
}  // namespace inkstone
