// Attention without a score matrix: each task walks the keys of one head in blocks, for a few panels of queries, and
// keeps a running maximum and sum (Dao et al., FlashAttention, 2022; Milakov and Gimelshein, 2018).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "cpu/cpu_kernels.h"

namespace inkstone {
namespace {

constexpr int64_t kBlockKeys = 128;   // their scores for a panel stay in the first cache, keys and values in the second
constexpr int64_t kPanelsOfTask = 4;  // that share the copy of a block

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Queries [begin, end) of one sequence, counted from its first row, and the head that they belong to.
struct AttentionTask {
  int64_t sequence = 0;
  int64_t head = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// Sizes of a call.
struct AttentionShape {
  AttentionShape(const Qkv& in, const VectorOps& vector)
      : heads(in.q.dim(1)),
        kv_heads(in.k.dim(1)),
        width(in.q.dim(2)),
        stride(round_up(width, vector.tile_rows)),
        block_keys(round_up(kBlockKeys, vector.tile_rows)),
        panel(vector.lanes * vector.panel_vectors) {}

  int64_t heads, kv_heads, width;
  int64_t stride;      // of a copied key, in numbers
  int64_t block_keys;  // most keys of a block
  int64_t panel;       // most queries of a panel

  int64_t scratch() const {
    return 2 * block_keys * stride + block_keys * panel + kPanelsOfTask * panel * (width + stride + 2);
  }
};

/// Memory of a task: one block of keys and values, one panel's scores, and the panels.
class TaskMemory {
 public:
  TaskMemory(float* memory, const AttentionShape& shape) : shape_(shape), next_(memory) {
    k = take(shape.block_keys * shape.stride);
    v = take(shape.block_keys * shape.stride);
    scores_ = take(shape.block_keys * shape.panel);
  }

  float* k;
  float* v;

  AttentionPanel panel(int64_t vectors, int64_t queries) {
    AttentionPanel p = {.vectors = vectors, .scores = scores_};
    p.q = take(shape_.width * queries);
    p.greatest = take(queries);
    p.sum = take(queries);
    p.out = take(shape_.stride * queries);
    return p;
  }

 private:
  float* take(int64_t count) { return std::exchange(next_, next_ + count); }

  const AttentionShape& shape_;
  float* next_;
  float* scores_;
};

class TaskRunner {
 public:
  TaskRunner(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options, const VectorOps& vector)
      : out_(out), in_(in), causal_(options.causal), vector_(vector), shape_(in, vector) {}

  const AttentionShape& shape() const { return shape_; }

  void run(const AttentionTask& task, float* scratch) const {
    TaskMemory memory(scratch, shape_);
    std::vector<AttentionPanel> panels;
    for (int64_t begin = task.begin; begin < task.end; begin += shape_.panel)
      panels.push_back(make_panel(task, begin, std::min(begin + shape_.panel, task.end), memory));

    const int64_t first = in_.sequences.begin(task.sequence);
    const int64_t end = causal_ ? task.end : in_.sequences.end(task.sequence) - first;
    for (int64_t key = 0; key < end; key += shape_.block_keys) {
      KeyBlock block = copy_block(task, first + key, std::min(shape_.block_keys, end - key), memory);
      for (size_t i = 0; i < panels.size(); ++i) {
        const int64_t query = task.begin + static_cast<int64_t>(i) * shape_.panel;
        block.diagonal = causal_ ? query - key : shape_.block_keys;
        if (block.diagonal + shape_.panel > 0) vector_.attend(panels[i], block);
      }
    }
    for (size_t i = 0; i < panels.size(); ++i) {
      const int64_t begin = task.begin + static_cast<int64_t>(i) * shape_.panel;
      write_panel(task, begin, std::min(begin + shape_.panel, task.end), panels[i]);
    }
  }

 private:
  AttentionPanel make_panel(const AttentionTask& task, int64_t begin, int64_t end, TaskMemory& memory) const {
    const int64_t vectors = (end - begin + vector_.lanes - 1) / vector_.lanes;
    const int64_t queries = vectors * vector_.lanes;
    AttentionPanel panel = memory.panel(vectors, queries);
    std::fill_n(panel.greatest, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(panel.sum, queries, 0.0f);
    std::fill_n(panel.out, shape_.stride * queries, 0.0f);
    // exp2 is cheaper than exp: the factor goes where it costs nothing.
    const auto factor = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(shape_.width)));
    const int64_t first = in_.sequences.begin(task.sequence) + begin;

    std::fill_n(panel.q, shape_.width * queries, 0.0f);
    for (int64_t i = 0; i < end - begin; ++i) {
      const float* from = in_.q.data<const float>() + ((first + i) * shape_.heads + task.head) * shape_.width;
      for (int64_t j = 0; j < shape_.width; ++j) panel.q[j * queries + i] = from[j] * factor;
    }
    return panel;
  }

  /// Rows of one head lie far apart, at distances that fall into few sets of the caches: copied once, read often.
  KeyBlock copy_block(const AttentionTask& task, int64_t row, int64_t keys, TaskMemory& memory) const {
    const int64_t head = task.head / (shape_.heads / shape_.kv_heads);
    const auto copy = [&](const Tensor& from, float* to) {
      for (int64_t i = 0; i < keys; ++i) {
        const float* x = from.data<const float>() + ((row + i) * shape_.kv_heads + head) * shape_.width;
        std::copy_n(x, shape_.width, to + i * shape_.stride);
        std::fill_n(to + i * shape_.stride + shape_.width, shape_.stride - shape_.width, 0.0f);
      }
      std::fill(to + keys * shape_.stride, to + round_up(keys, vector_.tile_rows) * shape_.stride, 0.0f);
    };
    copy(in_.k, memory.k);
    copy(in_.v, memory.v);
    return {.k = memory.k, .v = memory.v, .stride = shape_.stride, .keys = keys, .width = shape_.width};
  }

  /// To the rows of the streams that the queries came from.
  void write_panel(const AttentionTask& task, int64_t begin, int64_t end, const AttentionPanel& panel) const {
    const int64_t queries = panel.vectors * vector_.lanes;
    size_t stream = 0;
    int64_t stream_begin = 0;
    for (int64_t i = begin; i < end; ++i) {
      while (i >= stream_begin + in_.sequences.streams[stream].length(task.sequence))
        stream_begin += in_.sequences.streams[stream++].length(task.sequence);
      const int64_t row = in_.sequences.streams[stream].begin(task.sequence) + i - stream_begin;
      float* to = out_[stream].data<float>() + (row * shape_.heads + task.head) * shape_.width;
      const float* from = panel.out + i - begin;
      const float factor = 1.0f / panel.sum[i - begin];
      for (int64_t j = 0; j < shape_.width; ++j) to[j] = from[j * queries] * factor;
    }
  }

  std::span<Tensor> out_;
  const Qkv& in_;
  bool causal_;
  const VectorOps& vector_;
  AttentionShape shape_;
};

std::vector<AttentionTask> plan(const JoinedSequences& sequences, const AttentionShape& shape) {
  std::vector<AttentionTask> tasks;
  const int64_t queries = kPanelsOfTask * shape.panel;
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const int64_t length = sequences.end(s) - sequences.begin(s);
    for (int64_t head = 0; head < shape.heads; ++head)
      for (int64_t begin = 0; begin < length; begin += queries)
        tasks.push_back({s, head, begin, std::min(begin + queries, length)});
  }
  return tasks;
}

}  // namespace

void CpuKernels::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  const TaskRunner runner(out, in, options, vector_);
  const std::vector<AttentionTask> tasks = plan(in.sequences, runner.shape());
  pool_.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    runner.run(tasks[static_cast<size_t>(index)], scratch_.floats(worker, runner.shape().scratch()));
  });
}

}  // namespace inkstone
