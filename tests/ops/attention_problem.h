// Problems that attention is tested with.
#pragma once
#include <gmock/gmock.h>

#include "ops/device_under_test.h"

namespace inkstone {

/// lengths[stream][sequence]
struct AttentionProblem {
  const char* what;
  std::vector<std::vector<int64_t>> lengths;
  Heads heads;
  bool causal = false;
  float spread = 1;  // of q and k
};

inline Qkv random_qkv(const AttentionProblem& problem) {
  Qkv in;
  for (const auto& lengths : problem.lengths) in.sequences.streams.emplace_back(lengths);
  const int64_t rows = in.sequences.rows();
  in.q = random_normal({rows, problem.heads.heads, problem.heads.width}, 1, problem.spread);
  in.k = random_normal({rows, problem.heads.kv_heads, problem.heads.width}, 2, problem.spread);
  in.v = random_normal({rows, problem.heads.kv_heads, problem.heads.width}, 3);
  return in;
}

/// Streams of three sequences, the second of which has what is no number: all of its results are none, and the others'
/// are as without it.
inline void expect_none_in_the_second(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected,
                                      const JoinedSequences& sequences) {
  for (size_t p = 0; p < sequences.streams.size(); ++p) {
    const Sequences& s = sequences.streams[p];
    for (const int64_t other : {0, 2})
      EXPECT_EQ(values_of(actual[p].rows(s.begin(other), s.end(other))),
                values_of(expected[p].rows(s.begin(other), s.end(other))));
    EXPECT_THAT(values_of(actual[p].rows(s.begin(1), s.end(1))), testing::Each(testing::IsNan()));
  }
}

}  // namespace inkstone
