#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;

using ReferenceJoin = ReferenceTest;
using ReferenceAttention = ReferenceTest;
using Pairs = RopeTable::Pairs;

TEST_F(ReferenceJoin, SplitsAndJoinsSequenceBySequence) {
  const Sequences txt(std::vector<int64_t>{1, 2}), img(std::vector<int64_t>{2, 1});
  const Tensor txt_qkv = f32({3, 3}, {1, 2, 3, 11, 12, 13, 21, 22, 23});  // q, k, v of one head of width 1
  const Tensor img_qkv = f32({3, 3}, {101, 102, 103, 111, 112, 113, 121, 122, 123});
  const Qkv joined = ops_.join_qkv({{txt_qkv, &txt}, {img_qkv, &img}}, {.heads = 1, .kv_heads = 1, .width = 1});
  EXPECT_THAT(values_of(joined.q), ElementsAre(1, 101, 111, 11, 21, 121));
  EXPECT_THAT(values_of(joined.k), ElementsAre(2, 102, 112, 12, 22, 122));
  EXPECT_THAT(values_of(joined.v), ElementsAre(3, 103, 113, 13, 23, 123));
}

TEST_F(ReferenceJoin, SharedKeyHeadsFollowAllQueryHeads) {
  const Sequences one = Sequences::equal(1, 1);
  const Tensor qkv = f32({1, 8}, {0, 1, 2, 3, 4, 5, 6, 7});  // 4 query heads, 2 key heads, 2 value heads
  const Qkv joined = ops_.join_qkv({{qkv, &one}}, {.heads = 4, .kv_heads = 2, .width = 1});
  EXPECT_THAT(values_of(joined.q), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(values_of(joined.k), ElementsAre(4, 5));
  EXPECT_THAT(values_of(joined.v), ElementsAre(6, 7));
}

TEST_F(ReferenceJoin, NormsQueriesAndKeysPerHead) {
  const Sequences one = Sequences::equal(1, 1);
  const Tensor qkv = f32({1, 8}, {3, 4, 6, 8, 1, 1, 5, 7});  // 2 query heads, 1 key head, 1 value head of width 2
  const QkvPart part = {qkv, &one, f32({2}, {1, 2}), f32({2}, {10, 20})};
  const Qkv joined = ops_.join_qkv({part}, {.heads = 2, .kv_heads = 1, .width = 2}, 0.5f);
  EXPECT_THAT(values_of(joined.q),
              Near({3 / std::sqrt(13.0), 8 / std::sqrt(13.0), 6 / std::sqrt(50.5), 16 / std::sqrt(50.5)}));
  EXPECT_THAT(values_of(joined.k), Near({10 / std::sqrt(1.5), 20 / std::sqrt(1.5)}));
  EXPECT_THAT(values_of(joined.v), ElementsAre(5, 7));
}

TEST_F(ReferenceJoin, RotatesNeighboursOrHalves) {
  const Sequences one = Sequences::equal(1, 1);
  const Tensor qkv = f32({1, 12}, {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4});
  const double a = 0.5, b = -2;  // the angles of the two pairs
  const auto as_float = [](double x) { return static_cast<float>(x); };
  const Tensor table =
      f32({1, 2, 2}, {as_float(std::cos(a)), as_float(std::sin(a)), as_float(std::cos(b)), as_float(std::sin(b))});
  const auto rotated = [&](Pairs pairs) {
    return ops_.join_qkv({{.qkv = qkv, .sequences = &one, .rope = {table, pairs}}},
                         {.heads = 1, .kv_heads = 1, .width = 4});
  };
  const double ca = std::cos(a), sa = std::sin(a), cb = std::cos(b), sb = std::sin(b);
  const std::vector<double> neighbours = {ca - 2 * sa, sa + 2 * ca, 3 * cb - 4 * sb, 3 * sb + 4 * cb};
  const std::vector<double> halves = {ca - 3 * sa, 2 * cb - 4 * sb, sa + 3 * ca, 2 * sb + 4 * cb};
  EXPECT_THAT(values_of(rotated(Pairs::neighbours).q), Near(neighbours));
  EXPECT_THAT(values_of(rotated(Pairs::neighbours).k), Near(neighbours));
  EXPECT_THAT(values_of(rotated(Pairs::neighbours).v), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(values_of(rotated(Pairs::halves).q), Near(halves));
}

TEST_F(ReferenceJoin, NormsBeforeItRotatesAndTakesTheTableRowOfEachToken) {
  const Sequences two = Sequences::equal(2, 1);
  const Tensor qkv = f32({2, 6}, {3, 4, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0});
  const Tensor quarter_turns = f32({2, 1, 2}, {0, 1, -1, 0});  // by 90 and 180 degrees
  const QkvPart part = {.qkv = qkv, .sequences = &two, .q_norm = f32({2}, {1, 2}), .rope = {quarter_turns}};
  const Qkv joined = ops_.join_qkv({part}, {.heads = 1, .kv_heads = 1, .width = 2});
  const double root = std::sqrt(12.5);
  EXPECT_THAT(values_of(joined.q), Near({-8 / root, 3 / root, -3 / root, -8 / root}));
}

TEST_F(ReferenceAttention, WeighsValuesByTheSoftmaxOfScaledScores) {
  const Qkv in = {f32({2, 1, 4}, {1, 0, 0, 0, 0, 2, 0, 0}),
                  f32({2, 1, 4}, {2, 0, 0, 0, 0, 4, 0, 0}),
                  f32({2, 1, 4}, {1, 2, 3, 4, 5, 6, 7, 8}),
                  {{Sequences::equal(1, 2)}}};
  // Scores / sqrt(4): the first query has 1 and 0, the second 0 and 4.
  const double p = std::exp(1) / (std::exp(1) + 1), q = 1 / (1 + std::exp(4));
  EXPECT_THAT(values_of(ops_.attention(in)[0]), Near({5 - 4 * p, 6 - 4 * p, 7 - 4 * p, 8 - 4 * p,  //
                                                      5 - 4 * q, 6 - 4 * q, 7 - 4 * q, 8 - 4 * q}));
}

TEST_F(ReferenceAttention, LargeScoresDoNotOverflow) {
  const Qkv in = {
      f32({2, 1, 1}, {1000, -1000}), f32({2, 1, 1}, {1000, 0}), f32({2, 1, 1}, {3, 5}), {{Sequences::equal(1, 2)}}};
  EXPECT_THAT(values_of(ops_.attention(in)[0]), ElementsAre(3, 5));
}

TEST_F(ReferenceAttention, CausalQueriesReadNoLaterKeys) {
  // Equal scores: each row is the mean of the values up to and with its own, within its sequence.
  const Qkv in = {f32({5, 1, 1}, {0, 0, 0, 0, 0}),
                  f32({5, 1, 1}, {1, 1, 1, 1, 1}),
                  f32({5, 1, 1}, {2, 4, 10, 20, 60}),
                  {{Sequences(std::vector<int64_t>{2, 3})}}};
  EXPECT_THAT(values_of(ops_.attention(in, {.causal = true})[0]), Near({2, 3, 10, 15, 30}));
  EXPECT_THAT(values_of(ops_.attention(in)[0]), Near({3, 3, 30, 30, 30}));
}

TEST_F(ReferenceAttention, GroupsOfQueryHeadsShareAKeyHead) {
  const Qkv in = {
      f32({1, 4, 1}, {1, 2, 3, 4}), f32({1, 2, 1}, {1, 1}), f32({1, 2, 1}, {7, 9}), {{Sequences::equal(1, 1)}}};
  EXPECT_THAT(values_of(ops_.attention(in)[0]), ElementsAre(7, 7, 9, 9));
}

TEST_F(ReferenceAttention, PartsTheJoinedRowsIntoStreamsAgain) {
  const Sequences txt(std::vector<int64_t>{1, 2}), img(std::vector<int64_t>{2, 1});
  const auto stream = [&](std::vector<float> v) {  // q = k, so large that each row reads itself alone
    std::vector<float> qkv;
    for (const float x : v)
      for (const float y : {100 * std::cos(x), 100 * std::sin(x), 100 * std::cos(x), 100 * std::sin(x), x, -x})
        qkv.push_back(y);
    return f32({static_cast<int64_t>(v.size()), 6}, qkv);
  };
  const Qkv joined =
      ops_.join_qkv({{stream({1, 2, 3}), &txt}, {stream({4, 5, 6}), &img}}, {.heads = 1, .kv_heads = 1, .width = 2});
  const auto out = ops_.attention(joined);
  EXPECT_THAT(values_of(out[0]), Near({1, -1, 2, -2, 3, -3}));
  EXPECT_THAT(values_of(out[1]), Near({4, -4, 5, -5, 6, -6}));
}

TEST_F(ReferenceAttention, SequencesDoNotSeeEachOther) {
  const Sequences sequences(std::vector<int64_t>{3, 1, 4});
  const Heads heads = {.heads = 4, .kv_heads = 2, .width = 3};
  const Tensor qkv = random_normal({8, 24}, 1);
  const Tensor together = ops_.attention(ops_.join_qkv({{qkv, &sequences}}, heads))[0];
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const Sequences alone = Sequences::equal(1, sequences.length(s));
    const Tensor rows = qkv.rows(sequences.begin(s), sequences.end(s));
    const Tensor out = ops_.attention(ops_.join_qkv({{rows, &alone}}, heads))[0];
    EXPECT_EQ(values_of(together.rows(sequences.begin(s), sequences.end(s))), values_of(out)) << s;
  }
}

}  // namespace
}  // namespace inkstone
