// Problems that attention is tested with.
#pragma once
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

}  // namespace inkstone
