// What both ways to attend share: how queries are cut into tasks, and where their results go.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "ops/kernels.h"

namespace inkstone {

/// Queries [begin, end) of one sequence, counted from its first row, in one or more heads.
struct AttentionTask {
  int64_t sequence = 0;
  int64_t head = 0;
  int64_t heads = 1;
  int64_t begin = 0;
  int64_t end = 0;
};

/// How many queries go into a panel, and panels and heads into a task, at most.
struct PanelSizes {
  int64_t queries = 0;
  int64_t panels = 0;
  int64_t heads = 1;
};

/// For every worker: enough that the last ones end together.
inline constexpr int64_t kAttentionTasks = 4;

/// As many panels to a task as leave enough tasks for all workers. A query's result must not depend on this.
std::vector<AttentionTask> plan_attention(const Qkv& in, const PanelSizes& most, int threads);

/// Sums of a panel's queries, which are a part of a task's.
struct PanelSums {
  int64_t begin = 0, end = 0;  ///< as AttentionTask's
  int64_t stride = 0;          ///< queries with those that nobody asked for
  float* out = nullptr;        ///< (width, stride): is divided by the weights' sums
  const float* sum = nullptr;  ///< (stride): of weights
};

/// Divides the sums of a panel by those of its weights.
void finish_sums(const PanelSums& sums, int64_t width);

/// Calls each(stream, its first row, begin, end) for the parts of queries [begin, end) of a sequence.
void for_streams(const JoinedSequences& sequences, int64_t sequence, int64_t begin, int64_t end, const auto& each) {
  int64_t stream_begin = 0;  // in the joined sequence
  for (size_t stream = 0; stream < sequences.streams.size(); ++stream) {
    const Sequences& rows = sequences.streams[stream];
    const int64_t stream_end = stream_begin + rows.length(sequence);
    const int64_t from = std::max(begin, stream_begin), to = std::min(end, stream_end);
    if (from < to) each(stream, rows.begin(sequence) + from - stream_begin, from, to);
    stream_begin = stream_end;
  }
}

/// To the rows of the streams that the queries of a task's first head came from.
void write_attention(std::span<Tensor> out, const Qkv& in, const AttentionTask& task, const PanelSums& sums);

}  // namespace inkstone
