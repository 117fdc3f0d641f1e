#include "cpu/attention_tasks.h"

#include <algorithm>

#include "core/rounding.h"
#include "cpu/transpose.h"

namespace inkstone {
std::vector<AttentionTask> plan_attention(const Qkv& in, const PanelSizes& most, int threads) {
  const JoinedSequences& sequences = in.sequences;
  const int64_t heads = in.q.dim(1);
  int64_t all = 0;  // panels, of a task's heads each
  const auto panels_of = [&](int64_t s) { return divide_up(sequences.end(s) - sequences.begin(s), most.queries); };
  for (int64_t s = 0; s < sequences.count(); ++s) all += panels_of(s) * divide_up(heads, most.heads);
  const int64_t panels = std::clamp<int64_t>(all / (threads * kAttentionTasks), 1, most.panels);

  std::vector<AttentionTask> tasks;
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const int64_t length = sequences.end(s) - sequences.begin(s);
    const int64_t blocks = divide_up(panels_of(s), panels);
    if (blocks == 0) continue;
    const int64_t queries = divide_up(panels_of(s), blocks) * most.queries;
    for (int64_t head = 0; head < heads; head += most.heads)
      for (int64_t begin = 0; begin < length; begin += queries)
        tasks.push_back({s, head, std::min(most.heads, heads - head), begin, std::min(begin + queries, length)});
  }
  return tasks;
}

void finish_sums(const PanelSums& sums, int64_t width) {
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < sums.stride; ++i) sums.out[j * sums.stride + i] /= sums.sum[i];
}

void write_attention(std::span<Tensor> out, const Qkv& in, const AttentionTask& task, const PanelSums& sums) {
  const int64_t heads = in.q.dim(1), width = in.q.dim(2);
  finish_sums(sums, width);
  for_streams(in.sequences, task.sequence, sums.begin, sums.end,
              [&](size_t stream, int64_t row, int64_t begin, int64_t end) {
                float* to = out[stream].data<float>() + (row * heads + task.head) * width;
                transpose({sums.out + begin - sums.begin, sums.stride}, width, end - begin, 1.0f, {to, heads * width});
              });
}

}  // namespace inkstone
