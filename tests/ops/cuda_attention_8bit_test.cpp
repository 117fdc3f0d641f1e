// Attention that a GPU rounds to 8 bits, beside that of the cpu in f32: the definition takes minutes for such rows.
#include <gmock/gmock.h>

#include "cpu/cpu_device.h"
#include "ops/attention_problem.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

constexpr AttentionOptions kTolerant = {.tolerant = true};
/// Weights and values have three bits behind the first: 2.6 % each, and a little more where sums are long. Scores have
/// an error of a hundredth of what they are by and large, and weights that of scores.
constexpr double kLeast = 0.02;
double most_error(float spread = 1) { return 0.06 + 0.01 * double{spread} * double{spread}; }

// Tiles hold 192 queries, blocks 96 keys; sums go on in f32 after 1920 keys. From 2048 rows a sequence on it is done.
const AttentionProblem kLong[] = {
    {"blocks and tiles without a rest", {{2112}}, {2, 2, 128}},
    {"a block of one key", {{2113}}, {1, 1, 128}},
    {"text and picture of two branches", {{7, 65}, {2305, 2500}}, {2, 2, 128}},
    {"queries that share keys", {{2200, 2049}}, {4, 2, 128}},
    {"three streams, uneven", {{3, 0, 50}, {2100, 2300, 3000}, {90, 1, 7}}, {1, 1, 128}},
    {"a short one beside a long one", {{5000, 90}}, {1, 1, 128}},
    {"long sums", {{6001}}, {1, 1, 128}},
    {"scores up to 20", {{64}, {2100}}, {2, 2, 128}, false, 2},
    {"scores up to 80", {{64}, {2100}}, {2, 2, 128}, false, 4},
};

class CudaAttention8BitTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_fp8(); !reason.empty()) GTEST_SKIP() << reason;
    cuda_ = make_cuda_device({.arithmetic = CudaArithmetic::fp8_all});
  }

  std::vector<Tensor> on_device(const Qkv& in, const AttentionOptions& options = kTolerant) {
    const Qkv there = uploaded(in);
    std::vector<Tensor> results = Ops(*cuda_).attention(there, options);
    for (Tensor& t : results) t = to_f32(cuda_->download(t));
    return results;
  }
  Qkv uploaded(const Qkv& in) {
    return {cuda_->upload(as_bf16(in.q)), cuda_->upload(as_bf16(in.k)), cuda_->upload(as_bf16(in.v)), in.sequences};
  }
  /// The greatest relative error of a stream.
  double error(const Qkv& in, const AttentionOptions& options = kTolerant) {
    const std::vector<Tensor> got = on_device(in, options);
    const std::vector<Tensor> wanted = Ops(*cpu_).attention(in, {.causal = options.causal});
    double most = 0;
    for (size_t p = 0; p < wanted.size(); ++p)
      if (wanted[p].count() > 0) most = std::max(most, relative_l2(got[p], wanted[p]));
    return most;
  }

  std::unique_ptr<Device> cuda_, cpu_ = make_cpu_device({});
};

TEST_F(CudaAttention8BitTest, IsNearThatInF32) {
  for (const AttentionProblem& problem : kLong) {
    const double off = error(random_qkv(problem));
    EXPECT_GT(off, kLeast) << problem.what;
    EXPECT_LT(off, most_error(problem.spread)) << problem.what;
    RecordProperty(problem.what, std::to_string(off));
  }
}

TEST_F(CudaAttention8BitTest, ShortCausalAndOtherHeadsStayInBf16) {
  constexpr double kNarrow = 1e-2;
  EXPECT_LT(error(random_qkv({"short", {{2047}}, {1, 1, 128}})), kNarrow);
  EXPECT_LT(error(random_qkv({"two short ones", {{1200, 1300}}, {1, 1, 128}})), kNarrow);
  EXPECT_LT(error(random_qkv({"heads of 64", {{2300}}, {1, 1, 64}})), kNarrow);
  const Qkv in = random_qkv({"", {{2300}}, {1, 1, 128}});
  EXPECT_LT(error(in, {}), kNarrow);
  EXPECT_LT(error(in, {.causal = true, .tolerant = true}), kNarrow);
}

TEST_F(CudaAttention8BitTest, WhatKeysHaveInCommonAndChannelsThatStandOutCostLittle) {
  const AttentionProblem problem = {"", {{2400}}, {2, 2, 128}};
  Qkv common = random_qkv(problem);
  for (int64_t i = 0; i < common.k.count(); ++i)
    if (i % 128 == 5 || i % 128 == 77) common.k.data<float>()[i] += 30;
  common.k = to_f32(as_bf16(common.k));  // of which bf16 keeps less
  EXPECT_LT(error(common), most_error());
  Qkv standing_out = random_qkv(problem);
  for (const Tensor* t : {&standing_out.q, &standing_out.k})
    for (int64_t i = 9; i < t->count(); i += 128) t->data<float>()[i] *= 5;
  EXPECT_LT(error(standing_out), most_error());
}

TEST_F(CudaAttention8BitTest, ValuesOfOneBlockMayBeThousandsOfTimesAsGreat) {
  // The blocks of the others must not lose bits to it, nor their weights: a key that no query sees has those values.
  Qkv in = random_qkv({"", {{2400}}, {1, 1, 128}});
  for (int64_t i = 0; i < 128; ++i) {
    in.v.data<float>()[1501 * 128 + i] *= 1000;
    in.k.data<float>()[1501 * 128 + i] = 0;
  }
  for (int64_t row = 0; row < 2400; ++row) in.q.data<float>()[row * 128] = 40;
  for (int64_t row = 0; row < 2400; ++row) in.k.data<float>()[row * 128] = row == 1501 ? -4.0f : 4.0f;
  EXPECT_LT(error(in), most_error());
  // And where it is seen.
  Qkv seen = random_qkv({"", {{2400}}, {1, 1, 128}});
  for (int64_t i = 0; i < 128; ++i) seen.v.data<float>()[1501 * 128 + i] *= 10000;
  EXPECT_LT(error(seen), most_error());
}

TEST_F(CudaAttention8BitTest, EqualScoresGiveTheMean) {
  Qkv in = random_qkv({"", {{4160}}, {1, 1, 128}});
  for (float& x : in.q.span<float>()) x = 0;
  for (float& x : in.v.span<float>()) x = 1.5f;  // which E4M3 has
  for (const float v : values_of(on_device(in)[0])) ASSERT_EQ(v, 1.5f);
}

TEST_F(CudaAttention8BitTest, NotANumberAndInfinityStayInTheirSequence) {
  const AttentionProblem problem = {"", {{20, 9, 30}, {2100, 2400, 2200}}, {2, 2, 128}};
  const std::vector<Tensor> expected = on_device(random_qkv(problem));
  for (const auto which : {&Qkv::q, &Qkv::k, &Qkv::v})
    for (const float odd : {NAN, INFINITY}) {
      Qkv in = random_qkv(problem);
      for (float& x : (in.*which).rows(in.sequences.begin(1), in.sequences.end(1)).span<float>()) x = odd;
      const std::vector<Tensor> actual = on_device(in);
      for (size_t p = 0; p < 2; ++p) {
        const Sequences& s = in.sequences.streams[p];
        for (const int64_t other : {0, 2})
          EXPECT_EQ(values_of(actual[p].rows(s.begin(other), s.end(other))),
                    values_of(expected[p].rows(s.begin(other), s.end(other))));
        EXPECT_THAT(values_of(actual[p].rows(s.begin(1), s.end(1))), testing::Each(testing::IsNan()));
      }
    }
}

TEST_F(CudaAttention8BitTest, ASequenceIsTheSameAloneAndBesideOthersAndTwice) {
  const Qkv both = random_qkv({"", {{7, 65}, {2305, 2500}}, {2, 2, 128}});
  const std::vector<Tensor> first = on_device(both), again = on_device(both);
  const int64_t begin = both.sequences.begin(1), end = both.sequences.end(1);
  Qkv one = {both.q.rows(begin, end), both.k.rows(begin, end), both.v.rows(begin, end), {}};
  for (const Sequences& s : both.sequences.streams) one.sequences.streams.emplace_back(std::vector{s.length(1)});
  const std::vector<Tensor> alone = on_device(one);
  for (size_t p = 0; p < 2; ++p) {
    const Sequences& s = both.sequences.streams[p];
    EXPECT_EQ(values_of(first[p]), values_of(again[p]));
    EXPECT_EQ(values_of(first[p].rows(s.begin(1), s.end(1))), values_of(alone[p]));
  }
}

TEST_F(CudaAttention8BitTest, WhatItTakesBesideTensorsIsCounted) {
  const Qkv in = uploaded(random_qkv({"", {{64, 70}, {2305, 2500}}, {4, 2, 128}}));
  Ops ops(*cuda_);
  ops.attention(in, kTolerant);  // tables are made once
  cuda_->reset_peak();
  const size_t before = cuda_->memory().current;
  size_t results = 0;
  for (const Tensor& t : ops.attention(in, kTolerant)) results += cuda_->pool_bytes(t.bytes());
  EXPECT_EQ(cuda_->memory().peak - before - results, cuda_->attention_bytes(in));
  EXPECT_GT(cuda_->attention_bytes(in), in.q.bytes());
}

}  // namespace
}  // namespace inkstone
