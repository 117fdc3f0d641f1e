// Attention without a score matrix: each task walks the keys of one head in blocks, for a few panels of queries, and
// keeps a running maximum and sum (Dao et al., FlashAttention, 2022; Milakov and Gimelshein, 2018).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "core/rounding.h"
#include "cpu/attention_tasks.h"
#include "cpu/cpu_kernels.h"
#include "cpu/int8_attention.h"
#include "cpu/transpose.h"

namespace inkstone {
namespace {

constexpr int64_t kMostKeys = 96;              // of a block: a panel's scores stay in the first cache
constexpr int64_t kMostPanels = 8;             // of a task: they share the copy of a block, which then costs 1 %
constexpr int64_t kPanelNumbers = 128 * 1024;  // of a task's panels: half of the second cache

/// Sizes of a call.
struct AttentionShape {
  AttentionShape(const Qkv& in, const VectorOps& vector)
      : heads(in.q.dim(1)),
        kv_heads(in.k.dim(1)),
        width(in.q.dim(2)),
        stride(round_up(width, vector.tile_rows)),
        most_keys(round_up(kMostKeys, vector.tile_rows)),
        panel(vector.lanes * vector.panel_vectors),
        most_panels(std::clamp<int64_t>(kPanelNumbers / (panel * (width + stride)), 1, kMostPanels)) {}

  int64_t heads, kv_heads, width;
  int64_t stride;       // of a copied key, in numbers
  int64_t most_keys;    // of a block
  int64_t panel;        // most queries of a panel
  int64_t most_panels;  // of a task

  int64_t scratch() const {
    return 2 * most_keys * stride + most_keys * panel + most_panels * panel * (width + stride + 2);
  }
};

/// A panel and the queries that it holds.
struct QueryPanel {
  AttentionPanel panel;
  int64_t begin = 0;
  int64_t end = 0;
};

/// One task in one worker's memory.
class TaskRunner {
 public:
  struct Call {
    std::span<Tensor> out;
    const Qkv& in;
    bool causal;
    const VectorOps& vector;
    AttentionShape shape;
    const ThreadPool& pool;
  };

  TaskRunner(const Call& call, const AttentionTask& task, float* scratch)
      : call_(call), shape_(call.shape), task_(task), next_(scratch) {
    k_ = take(shape_.most_keys * shape_.stride);
    v_ = take(shape_.most_keys * shape_.stride);
    scores_ = take(shape_.most_keys * shape_.panel);
  }

  void run() {
    std::vector<QueryPanel> panels;
    for (int64_t begin = task_.begin; begin < task_.end; begin += shape_.panel)
      panels.push_back(read_queries(begin, std::min(begin + shape_.panel, task_.end)));
    const int64_t length = sequences().end(task_.sequence) - sequences().begin(task_.sequence);
    const int64_t keys = round_up(divide_up(length, divide_up(length, shape_.most_keys)), call_.vector.tile_rows);
    const int64_t end = call_.causal ? task_.end : length;
    for (int64_t key = 0; key < end; key += keys) {
      call_.pool.check_stop();
      KeyBlock block = copy_keys(key, std::min(keys, length - key));
      for (const QueryPanel& p : panels) {
        block.diagonal = call_.causal ? p.begin - key : block.keys;
        if (!call_.causal || p.end > key) call_.vector.attend(p.panel, block);
      }
    }
    for (const QueryPanel& p : panels)
      write_attention(call_.out, call_.in, task_,
                      {p.begin, p.end, p.panel.vectors * call_.vector.lanes, p.panel.out, p.panel.sum});
  }

 private:
  const JoinedSequences& sequences() const { return call_.in.sequences; }
  float* take(int64_t count) { return std::exchange(next_, next_ + count); }

  QueryPanel read_queries(int64_t begin, int64_t end) {
    AttentionPanel panel = {.vectors = divide_up(end - begin, call_.vector.lanes), .scores = scores_};
    const int64_t queries = panel.vectors * call_.vector.lanes;
    panel.q = take(shape_.width * queries);
    panel.greatest = take(queries);
    panel.sum = take(queries);
    panel.out = take(shape_.stride * queries);
    std::fill_n(panel.greatest, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(panel.sum, queries, 0.0f);
    std::fill_n(panel.out, shape_.stride * queries, 0.0f);

    // exp2 is cheaper than exp: the factor goes where it costs nothing.
    const auto factor = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(shape_.width)));
    const int64_t row = sequences().begin(task_.sequence) + begin;
    const float* from = call_.in.q.data<const float>() + (row * shape_.heads + task_.head) * shape_.width;
    if (end - begin < queries) std::fill_n(panel.q, shape_.width * queries, 0.0f);
    transpose({from, shape_.heads * shape_.width}, end - begin, shape_.width, factor, {panel.q, queries});
    return {panel, begin, end};
  }

  /// Rows of one head lie far apart, at distances that fall into few sets of the caches: copied once, read often.
  KeyBlock copy_keys(int64_t key, int64_t count) {
    const int64_t head = task_.head / (shape_.heads / shape_.kv_heads);
    const int64_t row = sequences().begin(task_.sequence) + key;
    const auto copy = [&](const Tensor& tensor, float* to) {
      const float* from = tensor.data<const float>() + (row * shape_.kv_heads + head) * shape_.width;
      for (int64_t i = 0; i < count; ++i, from += shape_.kv_heads * shape_.width, to += shape_.stride) {
        std::copy_n(from, shape_.width, to);
        std::fill(to + shape_.width, to + shape_.stride, 0.0f);
      }
      std::fill_n(to, (round_up(count, call_.vector.tile_rows) - count) * shape_.stride, 0.0f);
    };
    copy(call_.in.k, k_);
    copy(call_.in.v, v_);
    return {.k = k_, .v = v_, .stride = shape_.stride, .keys = count, .width = shape_.width};
  }

  const Call& call_;
  const AttentionShape& shape_;
  const AttentionTask& task_;
  float* next_;
  float* k_;
  float* v_;
  float* scores_;
};

}  // namespace

/// Rounding pays where scores of all keys are read: half of a causal block's would be thrown away.
bool CpuKernels::rounds(const Qkv& in, const AttentionOptions& options) const {
  return int8_ != nullptr && options.tolerant && !options.causal && int8_attention_ops(*int8_) != nullptr &&
         in.q.dim(2) <= kInt8MostGroup;
}

size_t CpuKernels::attention_bytes(const Qkv& tolerant) const {
  return rounds(tolerant, {.tolerant = true}) ? int8_attention_bytes(*int8_, tolerant) : 0;
}

void CpuKernels::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  if (rounds(in, options)) return attend_in_int8(out, in, options.feeds);
  const TaskRunner::Call call = {out, in, options.causal, vector_, AttentionShape(in, vector_), pool_};
  const std::vector<AttentionTask> tasks =
      plan_attention(in, {call.shape.panel, call.shape.most_panels}, pool_.threads());
  pool_.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    TaskRunner(call, tasks[static_cast<size_t>(index)], scratch_.floats(worker, call.shape.scratch())).run();
  });
}

}  // namespace inkstone
