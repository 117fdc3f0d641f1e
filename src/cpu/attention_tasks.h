// What both ways to attend share: how queries are cut into tasks, and where their results go.
#pragma once
#include <span>
#include <vector>

#include "ops/kernels.h"

namespace inkstone {

/// Queries [begin, end) of one sequence, counted from its first row, and the head that they belong to.
struct AttentionTask {
  int64_t sequence = 0;
  int64_t head = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// How many queries go into a panel, and panels into a task, at most.
struct PanelSizes {
  int64_t queries = 0;
  int64_t panels = 0;
};

/// As many panels to a task as leave enough tasks for all workers. A query's result must not depend on this.
std::vector<AttentionTask> plan_attention(const Qkv& in, const PanelSizes& most, int threads);

/// Sums of a panel's queries, which are a part of a task's.
struct PanelSums {
  int64_t begin = 0, end = 0;  ///< as AttentionTask's
  int64_t stride = 0;          ///< queries with those that nobody asked for
  float* out = nullptr;        ///< (width, stride): is divided by the weights' sums
  const float* sum = nullptr;  ///< (stride): of weights
};

/// To the rows of the streams that the queries came from.
void write_attention(std::span<Tensor> out, const Qkv& in, const AttentionTask& task, const PanelSums& sums);

}  // namespace inkstone
