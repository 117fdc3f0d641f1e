// Attention that a GPU rounds to 8 bits, beside that of the cpu in f32: the definition takes minutes for such rows.
#include <gmock/gmock.h>

#include "cpu/cpu_device.h"
#include "ops/attention_problem.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

constexpr AttentionOptions kTolerant = {.tolerant = true};
/// Weights and values have three bits behind the first: 2.6 % each, and a little more where sums are long.
constexpr double kLeast = 0.02, kMost = 0.05;

struct LongProblem {
  AttentionProblem of;
  double most = kMost;
};
// Tiles hold 192 queries, blocks 96 keys; sums go on in f32 after 1920 keys. It is done where all sequences have 3584
// rows or more.
const LongProblem kLong[] = {
    {{"blocks and tiles without a rest", {{3648}}, {2, 2, 128}}},
    {{"a block of one key", {{3649}}, {1, 1, 128}}},
    {{"text and picture of two branches", {{7, 65}, {3600, 3900}}, {2, 2, 128}}},
    {{"queries that share keys", {{3700, 3584}}, {4, 2, 128}}},
    {{"three streams, uneven", {{3, 0, 50}, {3600, 3800, 4000}, {90, 1, 7}}, {1, 1, 128}}},
    {{"long sums", {{6001}}, {1, 1, 128}}},
    {{"scores up to 20", {{64}, {3600}}, {2, 2, 128}, false, 2}},
    {{"scores up to 80", {{64}, {3600}}, {2, 2, 128}, false, 4}, 0.08},
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
  for (const LongProblem& problem : kLong) {
    const double off = error(random_qkv(problem.of));
    EXPECT_GT(off, kLeast) << problem.of.what;
    EXPECT_LT(off, problem.most) << problem.of.what;
    RecordProperty(problem.of.what, std::to_string(off));
  }
}

TEST_F(CudaAttention8BitTest, ShortCausalAndOtherHeadsStayInBf16) {
  constexpr double kNarrow = 1e-2;
  EXPECT_LT(error(random_qkv({"short", {{3583}}, {1, 1, 128}})), kNarrow);
  EXPECT_LT(error(random_qkv({"a short one beside a long one", {{3500, 3900}}, {1, 1, 128}})), kNarrow);
  EXPECT_LT(error(random_qkv({"heads of 64", {{3600}}, {1, 1, 64}})), kNarrow);
  const Qkv in = random_qkv({"", {{3600}}, {1, 1, 128}});
  EXPECT_LT(error(in, {}), kNarrow);
  EXPECT_LT(error(in, {.causal = true, .tolerant = true}), kNarrow);
}

constexpr int64_t kRows = 3600, kWidth = 128;  // of one head

TEST_F(CudaAttention8BitTest, WhatKeysHaveInCommonCostsLittle) {
  Qkv in = random_qkv({"", {{kRows}}, {1, 1, kWidth}});
  for (int64_t i = 0; i < in.k.count(); ++i) in.k.data<float>()[i] += i % kWidth % 3 == 0 ? -30.0f : 30.0f;
  in.k = to_f32(as_bf16(in.k));  // which keeps less of such numbers
  EXPECT_LT(error(in), kMost);
}

TEST_F(CudaAttention8BitTest, AChannelThatStandsOutCostsLittle) {
  Qkv in = random_qkv({"", {{kRows}}, {1, 1, kWidth}});
  for (int64_t i = 9; i < in.k.count(); i += kWidth) {
    in.k.data<float>()[i] *= 20;
    in.q.data<float>()[i] /= 20;
  }
  EXPECT_LT(error(in), 0.055);
  Qkv values = random_qkv({"", {{kRows}}, {1, 1, kWidth}});
  for (int64_t i = 9; i < values.v.count(); i += kWidth) values.v.data<float>()[i] *= 100;
  const Tensor got = on_device(values)[0], wanted = Ops(*cpu_).attention(values)[0];
  for (const Tensor* t : {&got, &wanted})
    for (int64_t i = 9; i < t->count(); i += kWidth) t->data<float>()[i] = 0;  // the others must not lose to it
  EXPECT_LT(relative_l2(got, wanted), kMost);
}

/// Of one key, which no query sees: scores of all others are 28 greater.
void hide(Qkv& in, int64_t hidden) {
  for (int64_t row = 0; row < kRows; ++row) {
    in.q.data<float>()[row * kWidth] = 40;
    in.k.data<float>()[row * kWidth] = row == hidden ? -4.0f : 4.0f;
  }
}

TEST_F(CudaAttention8BitTest, AValueMayBeThousandsOfTimesAsGreat) {
  // Some keys stand for all when scales are chosen: the first is one of them, and 2251 is none.
  for (const int64_t row : {int64_t{0}, int64_t{2251}})
    for (const bool hidden : {false, true}) {
      Qkv in = random_qkv({"", {{kRows}}, {1, 1, kWidth}});
      for (int64_t i = 0; i < kWidth; ++i) in.v.data<float>()[row * kWidth + i] *= hidden ? 1000.0f : 10000.0f;
      if (hidden) hide(in, row);
      EXPECT_LT(error(in), hidden ? 0.07 : kMost) << row << (hidden ? ", hidden" : ", seen");
    }
}

TEST_F(CudaAttention8BitTest, LaterKeysMayOutweighEarlierOnes) {
  Qkv in = random_qkv({"", {{5000}}, {1, 1, kWidth}});
  for (int64_t row = 0; row < 5000; ++row) {
    in.q.data<float>()[row * kWidth] = 10;
    in.k.data<float>()[row * kWidth] = static_cast<float>(row) / 5000 * 45;  // scores grow by 40
  }
  in.k = to_f32(as_bf16(in.k));  // which keeps less of such numbers
  EXPECT_LT(error(in), 0.06);
}

TEST_F(CudaAttention8BitTest, EqualScoresGiveTheMean) {
  Qkv in = random_qkv({"", {{4160}}, {1, 1, 128}});
  for (float& x : in.q.span<float>()) x = 0;
  for (float& x : in.v.span<float>()) x = 1.5f;  // which E4M3 has
  for (const float v : values_of(on_device(in)[0])) ASSERT_EQ(v, 1.5f);
}

TEST_F(CudaAttention8BitTest, NotANumberAndInfinityStayInTheirSequence) {
  const AttentionProblem problem = {"", {{20, 9, 30}, {3600, 3700, 3650}}, {2, 2, kWidth}};
  const std::vector<Tensor> expected = on_device(random_qkv(problem));
  constexpr int64_t kEveryNumber = 1, kOneChannel = kWidth;  // of all rows of the sequence
  for (const auto which : {&Qkv::q, &Qkv::k, &Qkv::v})
    for (const float odd : {NAN, INFINITY})
      for (const int64_t every : {kEveryNumber, kOneChannel}) {
        Qkv in = random_qkv(problem);
        const Tensor rows = (in.*which).rows(in.sequences.begin(1), in.sequences.end(1));
        for (int64_t i = 0; i < rows.count(); i += every) rows.data<float>()[i] = odd;
        expect_none_in_the_second(on_device(in), expected, in.sequences);
      }
}

TEST_F(CudaAttention8BitTest, ScoresBeyondF32EndInNotANumber) {
  Qkv in = random_qkv({"", {{kRows}}, {1, 1, kWidth}, false, 1e30f});
  for (const float v : values_of(on_device(in)[0])) ASSERT_TRUE(std::isnan(v) || std::isfinite(v)) << v;
}

TEST_F(CudaAttention8BitTest, OneInfiniteValueIsNotLost) {
  Qkv in = random_qkv({"", {{kRows}}, {1, 1, kWidth}});
  in.v.data<float>()[2251 * kWidth] = INFINITY;
  for (const float v : values_of(on_device(in)[0])) ASSERT_FALSE(std::isfinite(v));
}

TEST_F(CudaAttention8BitTest, ASequenceIsTheSameAloneAndBesideOthersAndTwice) {
  const Qkv both = random_qkv({"", {{7, 65}, {3600, 3900}}, {2, 2, kWidth}});
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
  const Qkv in = uploaded(random_qkv({"", {{64, 70}, {3600, 3900}}, {4, 2, kWidth}}));
  Ops ops(*cuda_);
  ops.attention(in, kTolerant);  // tables are made once
  cuda_->reset_peak();
  const size_t before = cuda_->memory().current;
  size_t results = 0;
  for (const Tensor& t : ops.attention(in, kTolerant)) results += cuda_->pool_bytes(t.bytes());
  EXPECT_EQ(cuda_->memory().peak - before - results, cuda_->attention_bytes(in));
  EXPECT_GT(cuda_->attention_bytes(in), in.q.bytes());
}

TEST_F(CudaAttention8BitTest, ReplayedItGivesWhatTheOpGives) {
  const auto numbers_of = [&](const Tensor& t) { return values_of(to_f32(cuda_->download(t))); };
  Ops ops(*cuda_);
  const JoinedSequences sequences = random_qkv({"", {{40}, {kRows}}, {2, 2, kWidth}}).sequences;
  const RecordedWork work = [&](std::span<const Tensor> in) {
    return ops.concat_rows(ops.attention({in[0], in[1], in[2], sequences}, kTolerant));
  };
  const auto inputs = [&](float spread) {
    const Qkv in = uploaded(random_qkv({"", {{40}, {kRows}}, {2, 2, kWidth}, false, spread}));
    return std::vector<Tensor>{in.q, in.k, in.v};
  };
  numbers_of(work(inputs(1)));  // tables are made once
  const auto recording = ops.record(inputs(1), work);
  ASSERT_NE(recording, nullptr);
  for (const float spread : {1.0f, 2.0f, 0.5f}) {
    const std::vector<Tensor> in = inputs(spread);
    EXPECT_EQ(numbers_of(recording->replay(in)), numbers_of(work(in))) << spread;
  }
}

}  // namespace
}  // namespace inkstone
