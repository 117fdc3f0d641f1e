#include <gmock/gmock.h>

#include "ops/attention_problem.h"

namespace inkstone {
namespace {

// On the cpu panels hold 8 to 48 queries, blocks 128 keys, tiles 4 or 8 keys and columns; on cuda tiles hold 128
// queries and blocks 64 or 128 keys.
const AttentionProblem kProblems[] = {
    {"one row", {{1}}, {2, 2, 64}},
    {"one more than a panel, odd keys", {{49}}, {1, 1, 16}},
    {"one less than a block of keys", {{127}}, {1, 1, 20}},
    {"two blocks and one key", {{257}}, {2, 2, 64}},
    {"widths that no tile divides", {{70}}, {2, 1, 6}},
    {"a head of the tiny test model", {{25}}, {3, 3, 16}},
    {"between two widths of the kernels", {{150}}, {2, 2, 96}},
    {"a head of the transformer", {{200}}, {1, 1, 128}},
    {"heads of the transformer, two branches", {{7, 64}, {321, 250}}, {2, 2, 128}},
    {"causal heads of 128 that share keys", {{300, 129}}, {4, 2, 128}, true},
    {"the head of the VAE", {{300}}, {1, 1, 384}},
    {"wide heads of two branches and streams", {{7, 64}, {321, 250}}, {2, 2, 384}},
    {"causal wide heads that share keys", {{300, 129}}, {4, 2, 384}, true},
    {"wide heads with scores up to 300", {{280}}, {2, 2, 384}, false, 6},
    {"more queries than a task", {{401}}, {1, 1, 32}},
    {"text and image of two branches", {{5, 17}, {60, 60}}, {3, 3, 64}},
    {"three streams, uneven", {{3, 0, 50}, {1, 2, 3}, {90, 1, 7}}, {2, 2, 20}},
    {"causal", {{150}}, {2, 2, 64}, true},
    {"causal, several prompts", {{1, 33, 140, 257}}, {2, 1, 32}, true},
    {"causal, two streams", {{7, 60}, {45, 100}}, {1, 1, 16}, true},
    {"grouped queries of the text encoder", {{98}}, {28, 4, 32}, true},
    {"one key head", {{65, 3}}, {6, 1, 64}},
    {"scores up to 300", {{280}}, {2, 2, 64}, false, 6},
    {"scores up to 300, causal", {{280}}, {2, 2, 64}, true, 6},
    {"scores up to 300, a head of the transformer", {{20, 5}, {520, 131}}, {2, 2, 128}, false, 6},
    {"scores up to 300, causal heads of 128", {{400}}, {2, 1, 128}, true, 6},
};

/// The greatest length of a head's vector in a row.
double longest(const Tensor& t) {
  double longest = 0;
  for (int64_t i = 0; i < t.dim(0) * t.dim(1); ++i) {
    double squares = 0;
    for (int64_t j = 0; j < t.dim(2); ++j) squares += std::pow(t.data<float>()[i * t.dim(2) + j], 2);
    longest = std::max(longest, std::sqrt(squares));
  }
  return longest;
}

/// A score is a sum of products with a few roundings relative to |q| |k| / sqrt(c), and an error of a score is a
/// relative error of its weight. Sums over weights and values add a few more.
double tolerance(const Qkv& in) {
  const double score = longest(in.q) * longest(in.k) / std::sqrt(static_cast<double>(in.q.dim(2)));
  return (8 + score) * kRounding;
}

/// With q and k in bf16 a score is off by about as many roundings as it is large, and so is its weight; the weights, v
/// and the result are rounded too.
double narrow_roundings(const AttentionProblem& problem) { return 2 + 2 * problem.spread * problem.spread; }

class AttentionTest : public OpsTest {};
INKSTONE_ON_EVERY_DEVICE(AttentionTest);

TEST_P(AttentionTest, EqualsTheDefinition) {
  for (const AttentionProblem& problem : kProblems) {
    const Qkv in = random_qkv(problem);
    const AttentionOptions options = {.causal = problem.causal};
    const auto actual = tested().attention(in, options);
    const auto expected = reference().attention(in, options);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t stream = 0; stream < expected.size(); ++stream)
      EXPECT_LT(relative_l2(actual[stream], expected[stream]), allowed(tolerance(in), narrow_roundings(problem)))
          << problem.what << ", stream " << stream;
  }
}

TEST_P(AttentionTest, SurvivesScoresThatNoExponentialHolds) {
  // Equal keys but for one, whose score is far above or below: e^300 overflows f32, and e^-300 vanishes.
  for (const float factor : {300.0f, -300.0f}) {
    Qkv in = random_qkv({"", {{140}}, {1, 1, 16}});
    for (float& x : in.q.span<float>()) x = 1;
    for (float& x : in.k.span<float>()) x = 0;
    const int64_t special = 133;
    for (int64_t j = 0; j < 16; ++j) in.k.data<float>()[special * 16 + j] = factor / 4;  // score = factor
    const auto actual = tested().attention(in);
    const auto expected = reference().attention(in);
    EXPECT_LT(relative_l2(actual[0], expected[0]), allowed(32 * kRounding)) << factor;
  }
}

TEST_P(AttentionTest, NeverReadsAcrossSequences) {
  // What does not belong to a sequence is NaN: it must not reach the others.
  for (const int64_t width : {20, 128, 384}) {
    const AttentionProblem problem = {"", {{20, 9, 30}, {40, 5, 70}}, {2, 2, width}};
    const Qkv clean = random_qkv(problem);
    Qkv in = random_qkv(problem);
    for (const Tensor* t : {&in.q, &in.k, &in.v})
      for (float& x : t->rows(in.sequences.begin(1), in.sequences.end(1)).span<float>()) x = NAN;
    const auto expected = tested().attention(clean);
    const auto actual = tested().attention(in);
    expect_none_in_the_second(actual, expected, in.sequences);
  }
}

/// Of equal scores all weights are the same. A GPU holds rows of some lengths between its passes over them.
TEST_P(AttentionTest, LongRowsOfScoresAreSummedWhole) {
  if (GetParam().isa) GTEST_SKIP() << "the processor takes keys in blocks";
  for (const int64_t rows : {4104, 16384, 20004}) {
    Qkv in = random_qkv({"", {{rows}}, {1, 1, 136}});
    for (float& x : in.q.span<float>()) x = 0;
    const Tensor out = tested().attention(in)[0];
    for (int64_t column = 0; column < 136; column += 45) {
      double sum = 0, size = 0;
      for (int64_t row = 0; row < rows; ++row) {
        sum += in.v.data<float>()[row * 136 + column];
        size += std::abs(in.v.data<float>()[row * 136 + column]);
      }
      const double n = static_cast<double>(rows);
      for (const int64_t row : {int64_t{0}, rows / 2, rows - 1})
        EXPECT_NEAR(out.data<float>()[row * 136 + column], sum / n, allowed(1e-5, 1) * size / n) << rows;
    }
  }
}

TEST_P(AttentionTest, EqualsItselfWithAnyNumberOfThreads) {
  DeviceUnderTest one(GetParam(), 1), three(GetParam(), 3);
  for (const AttentionProblem& problem : kProblems) {
    const Qkv in = random_qkv(problem);
    const AttentionOptions options = {.causal = problem.causal};
    const auto first = one.tested.attention(in, options), second = three.tested.attention(in, options);
    for (size_t p = 0; p < first.size(); ++p) EXPECT_EQ(values_of(first[p]), values_of(second[p])) << problem.what;
  }
}

/// How q and k are treated, and the lengths of a join: lengths[stream][sequence].
struct Join {
  const char* what;
  std::vector<std::vector<int64_t>> lengths;
  Heads heads;
  bool norm = false;
  bool rope = false;
  RopeTable::Pairs pairs = RopeTable::Pairs::neighbours;
};

const Join kJoins[] = {
    {"plain", {{5}}, {1, 1, 384}},
    {"the transformer's", {{5, 9}, {30, 30}}, {3, 3, 64}, true, true},
    {"the text encoder's", {{1, 33, 20}}, {6, 2, 128}, false, true, RopeTable::Pairs::halves},
    {"odd widths", {{2, 0, 3}, {1, 4, 0}, {6, 6, 6}}, {3, 1, 6}, true, true},
    {"odd halves", {{40}}, {2, 2, 20}, true, true, RopeTable::Pairs::halves},
    {"norm alone", {{300, 4}}, {3, 3, 16}, true, false},
};

Tensor random_angles(int64_t rows, int64_t width, uint64_t seed) {
  Tensor table = random_normal({rows, width / 2, 2}, seed);
  for (int64_t i = 0; i < table.count(); i += 2) {
    const float angle = table.data<float>()[i] * 10;
    table.data<float>()[i] = std::cos(angle);
    table.data<float>()[i + 1] = std::sin(angle);
  }
  return table;
}

TEST_P(AttentionTest, JoinsAsDefined) {
  for (const Join& join : kJoins) {
    const Heads& h = join.heads;
    std::vector<Sequences> sequences;
    for (const auto& lengths : join.lengths) sequences.emplace_back(lengths);
    std::vector<QkvPart> parts;
    for (const Sequences& s : sequences) {
      const uint64_t seed = 10 * parts.size();
      QkvPart part = {random_normal({s.rows(), (h.heads + 2 * h.kv_heads) * h.width}, seed, 3), &s};
      if (join.norm) part.q_norm = random_normal({h.width}, seed + 1);
      if (join.norm) part.k_norm = random_normal({h.width}, seed + 2);
      if (join.rope) part.rope = {random_angles(s.rows(), h.width, seed + 3), join.pairs};
      parts.push_back(part);
    }
    const Qkv actual = tested().join_qkv(parts, h, 1e-6f), expected = reference().join_qkv(parts, h, 1e-6f);
    // The norm rounds six times, its sum a little more; the rotation three times.
    EXPECT_LT(relative_l2(actual.q, expected.q), allowed(16 * kRounding, 1)) << join.what;
    EXPECT_LT(relative_l2(actual.k, expected.k), allowed(16 * kRounding, 1)) << join.what;
    EXPECT_LE(relative_l2(actual.v, expected.v), allowed(0, 1)) << join.what;
    EXPECT_EQ(actual.sequences.streams, sequences) << join.what;
  }
}

}  // namespace
}  // namespace inkstone
