// Keys and values are rounded once, block by block; then tasks walk them as those of attention.cpp do.
#include "cpu/int8_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "core/rounding.h"
#include "cpu/attention_tasks.h"
#include "cpu/cache_line.h"
#include "cpu/transpose.h"

namespace inkstone {
namespace {

constexpr int64_t kMostPanels = 16;                  // of a task: they share a block while it is in the cache
constexpr int64_t kPanelBytes = int64_t{512} << 10;  // of a task's panels: half of the second cache
constexpr int64_t kFloat = sizeof(float);

/// Sizes of a call whose tasks round the results of so many heads, or of none.
struct RoundedShape {
  RoundedShape(const Qkv& in, const Int8Ops& int8, int64_t rounded_heads)
      : heads(in.q.dim(1)),
        kv_heads(in.k.dim(1)),
        width(in.q.dim(2)),
        keys(round_up(kInt8Keys, int8.tile_rows)),
        depth(round_up(width, int8.depth_unit)),
        channels(round_up(width, int8.tile_rows)),
        panel(strip_width(int8)),
        together(rounded_heads * width),
        most_panels(
            std::clamp<int64_t>(kPanelBytes / (panel * (depth + (channels + together) * kFloat)), 1, kMostPanels)) {}

  int64_t heads, kv_heads, width;
  int64_t keys;         // of a block, with room for whole tiles
  int64_t depth;        // of queries and keys
  int64_t channels;     // of values
  int64_t panel;        // most queries of a panel
  int64_t together;     // numbers of a query that a task rounds
  int64_t most_panels;  // of a task

  /// Of a block: codes, and behind them scales, sums and the fault.
  int64_t codes() const { return round_up(keys * depth + kInt8Keys * channels, kFloat); }
  int64_t block_bytes() const { return round_up(codes() + (2 * keys + channels + 1) * kFloat, kLineBytes); }

  /// In numbers, of a worker that rounds and of one that attends.
  int64_t rounding_room() const { return channels * kInt8Keys; }
  int64_t attending_room(const Int8Ops& int8) const {
    const int64_t codes = (most_panels * depth + kInt8Keys) * panel * int8.code_bytes;
    return keys * panel + most_panels * panel * (channels + together + 3) + divide_up(codes, kFloat);
  }
};

/// Keys and values of all sequences and heads.
class RoundedKeys {
 public:
  RoundedKeys(const Qkv& in, const RoundedShape& shape) : in_(in), shape_(shape) {
    for (int64_t s = 0; s < in.sequences.count(); ++s)
      first_.push_back(first_.back() + divide_up(length(s), kInt8Keys) * shape.kv_heads);
    means_.resize(static_cast<size_t>(2 * in.sequences.count() * shape.kv_heads * shape.width));
  }

  int64_t bytes() const { return first_.back() * shape_.block_bytes(); }
  void keep_in(std::byte* memory) { memory_ = memory; }

  int64_t length(int64_t sequence) const { return in_.sequences.end(sequence) - in_.sequences.begin(sequence); }
  int64_t blocks(int64_t sequence) const { return divide_up(length(sequence), kInt8Keys); }

  Int8KeyBlock at(int64_t sequence, int64_t head, int64_t block) const {
    const int64_t index = first_[static_cast<size_t>(sequence)] + head * blocks(sequence) + block;
    std::byte* memory = memory_ + index * shape_.block_bytes();
    Int8KeyBlock b = {.k = reinterpret_cast<int8_t*>(memory),
                      .keys = std::min(kInt8Keys, length(sequence) - block * kInt8Keys),
                      .width = shape_.width,
                      .depth = shape_.depth};
    b.v = b.k + shape_.keys * shape_.depth;
    b.k_scales = reinterpret_cast<float*>(memory + shape_.codes());
    b.v_scales = b.k_scales + shape_.keys;
    b.fault = b.v_scales + shape_.channels;
    b.k_sums = reinterpret_cast<int32_t*>(b.fault + 1);
    return b;
  }

  const float* k_mean(int64_t sequence, int64_t head) const {
    return means_.data() + 2 * (sequence * shape_.kv_heads + head) * shape_.width;
  }
  const float* v_mean(int64_t sequence, int64_t head) const { return k_mean(sequence, head) + shape_.width; }

  void round(const Int8AttentionOps& ops, const Int8Workers& w) {
    w.pool.run(in_.sequences.count() * shape_.kv_heads, [&](int64_t index, int) { find_means(index); });
    struct Part {
      int64_t sequence, head, block;
    };
    std::vector<Part> parts;
    for (int64_t s = 0; s < in_.sequences.count(); ++s)
      for (int64_t head = 0; head < shape_.kv_heads; ++head)
        for (int64_t block = 0; block < blocks(s); ++block) parts.push_back({s, head, block});
    w.pool.run(static_cast<int64_t>(parts.size()), [&](int64_t index, int worker) {
      const Part& p = parts[static_cast<size_t>(index)];
      const int64_t row = in_.sequences.begin(p.sequence) + p.block * kInt8Keys;
      const int64_t first = (row * shape_.kv_heads + p.head) * shape_.width;
      ops.round_keys({.k = in_.k.data<const float>() + first,
                      .v = in_.v.data<const float>() + first,
                      .stride = shape_.kv_heads * shape_.width,
                      .k_mean = k_mean(p.sequence, p.head),
                      .v_mean = v_mean(p.sequence, p.head)},
                     at(p.sequence, p.head, p.block), w.scratch.floats(worker, shape_.rounding_room()));
    });
  }

 private:
  /// Of one sequence and head.
  void find_means(int64_t index) {
    const int64_t sequence = index / shape_.kv_heads, head = index % shape_.kv_heads, width = shape_.width;
    const int64_t begin = in_.sequences.begin(sequence), end = in_.sequences.end(sequence);
    const int64_t step = std::max<int64_t>(1, length(sequence) / kInt8MeanRows);
    float* mean = means_.data() + 2 * index * width;
    for (const Tensor* t : {&in_.k, &in_.v}) {
      for (int64_t row = begin; row < end; row += step) {
        const float* from = t->data<const float>() + (row * shape_.kv_heads + head) * width;
        for (int64_t i = 0; i < width; ++i) mean[i] += from[i];
      }
      for (int64_t i = 0; i < width; ++i) mean[i] /= static_cast<float>(divide_up(length(sequence), step));
      mean += width;
    }
  }

  const Qkv& in_;
  const RoundedShape& shape_;
  std::vector<int64_t> first_ = {0};  // block of each sequence
  std::vector<float> means_;          // (sequences, heads, 2, width)
  std::byte* memory_ = nullptr;
};

/// A panel and the queries that it holds.
struct RoundedQueries {
  Int8QueryPanel panel;
  int64_t begin = 0;
  int64_t end = 0;
};

/// One task in one worker's memory.
class RoundedTask {
 public:
  struct Call {
    std::span<Tensor> out;
    std::span<const RoundedStream> rounded;
    const Qkv& in;
    const RoundedShape& shape;
    const RoundedKeys& keys;
    const Int8Workers& workers;
    const Int8AttentionOps& ops;
  };

  RoundedTask(const Call& call, const AttentionTask& task, float* scratch)
      : call_(call), shape_(call.shape), int8_(call.workers.functions.int8), task_(task), next_(scratch) {
    scores_ = take(shape_.keys * shape_.panel);
    weights_ = reinterpret_cast<uint8_t*>(take(divide_up(kInt8Keys * shape_.panel * int8_.code_bytes, kFloat)));
    together_ = take(shape_.most_panels * shape_.panel * shape_.together);
  }

  void run() {
    float* of_a_head = next_;
    for (int64_t head = task_.head; head < task_.head + task_.heads; ++head) {
      next_ = of_a_head;
      attend(head);
    }
    if (!call_.rounded.empty()) round();
  }

 private:
  void attend(int64_t head) {
    std::vector<RoundedQueries> panels;
    for (int64_t begin = task_.begin; begin < task_.end; begin += shape_.panel)
      panels.push_back(round_queries(head, begin, std::min(begin + shape_.panel, task_.end)));
    const int64_t kv_head = head / (shape_.heads / shape_.kv_heads);
    for (int64_t i = 0; i < call_.keys.blocks(task_.sequence); ++i) {
      call_.workers.pool.check_stop();
      const Int8KeyBlock block = call_.keys.at(task_.sequence, kv_head, i);
      for (const RoundedQueries& q : panels) call_.ops.attend(q.panel, block);
    }
    for (const RoundedQueries& q : panels) {
      add_mean(q.panel, call_.keys.v_mean(task_.sequence, kv_head));
      write(head, {q.begin, q.end, q.panel.vectors * int8_.lanes, q.panel.out, q.panel.sum});
    }
  }

  /// To the result, or beside the task's other heads.
  void write(int64_t head, const PanelSums& sums) {
    if (call_.rounded.empty()) return write_attention(call_.out, call_.in, task_, sums);
    finish_sums(sums, shape_.width);
    float* to = together_ + (sums.begin - task_.begin) * shape_.together + (head - task_.head) * shape_.width;
    transpose({sums.out, sums.stride}, shape_.width, sums.end - sums.begin, 1.0f, {to, shape_.together});
  }

  void round() {
    const int64_t column = task_.head * shape_.width;
    for_streams(call_.in.sequences, task_.sequence, task_.begin, task_.end,
                [&](size_t stream, int64_t row, int64_t begin, int64_t end) {
                  const float* from = together_ + (begin - task_.begin) * shape_.together;
                  for (int64_t i = begin; i < end; ++i, ++row, from += shape_.together)
                    write_row(from, stream, row, column);
                });
  }

  void write_row(const float* from, size_t stream, int64_t row, int64_t column) {
    const int64_t numbers = task_.heads * shape_.width;
    const RoundedStream& to = call_.rounded[stream];
    if (to.factors != nullptr) return int8_.quantize({from, to.factors + column}, numbers, to.rows.at(row, column));
    std::copy_n(from, numbers, call_.out[stream].data<float>() + row * shape_.heads * shape_.width + column);
  }

  /// To sums that are still to be divided by that of the weights.
  void add_mean(const Int8QueryPanel& panel, const float* mean) const {
    const int64_t queries = panel.vectors * int8_.lanes;
    for (int64_t channel = 0; channel < shape_.width; ++channel)
      for (int64_t i = 0; i < queries; ++i) panel.out[channel * queries + i] += mean[channel] * panel.sum[i];
  }

  float* take(int64_t count) { return std::exchange(next_, next_ + count); }

  RoundedQueries round_queries(int64_t head, int64_t begin, int64_t end) {
    Int8QueryPanel panel = {.vectors = divide_up(end - begin, int8_.lanes), .scores = scores_, .weights = weights_};
    const int64_t queries = panel.vectors * int8_.lanes;
    auto* codes = reinterpret_cast<std::byte*>(take(divide_up(shape_.depth * queries * int8_.code_bytes, kFloat)));
    float* scales = take(queries);
    panel.q = codes, panel.q_scales = scales;
    panel.greatest = take(queries), panel.sum = take(queries), panel.out = take(shape_.channels * queries);
    std::fill_n(panel.greatest, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(panel.sum, queries, 0.0f);
    std::fill_n(panel.out, shape_.channels * queries, 0.0f);

    const int64_t row = call_.in.sequences.begin(task_.sequence) + begin;
    const int64_t stride = shape_.heads * shape_.width;
    const float* from = call_.in.q.data<const float>() + row * stride + head * shape_.width;
    for (int64_t lane = 0; lane < queries; lane += int8_.lanes)
      int8_.pack_lanes({.w = from + lane * stride,
                        .stride = stride,
                        .outputs = std::min(int8_.lanes, end - begin - lane),
                        .depth = shape_.width,
                        .vectors = panel.vectors,
                        .panel = codes + lane * int8_.depth_unit * int8_.code_bytes,
                        .scales = scales + lane});
    const auto factor = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(shape_.width)));
    for (int64_t i = 0; i < queries; ++i) scales[i] *= factor;
    return {panel, begin, end};
  }

  const Call& call_;
  const RoundedShape& shape_;
  const Int8Ops& int8_;
  const AttentionTask& task_;
  float* next_;
  float* scores_;
  uint8_t* weights_;
  float* together_;  // (queries of the task, shape_.together)
};

}  // namespace

size_t int8_attention_bytes(const Int8Ops& int8, const Qkv& in) {
  const RoundedShape shape(in, int8, 0);
  return static_cast<size_t>(RoundedKeys(in, shape).bytes());
}

int64_t heads_together(const Qkv& in, const Int8Ops& int8, int threads) {
  const int64_t heads = in.q.dim(1), width = in.q.dim(2);
  if (kInt8Group % width != 0) return 0;
  const int64_t together = std::min(heads, kInt8Group / width);
  const int64_t panels = divide_up(in.q.dim(0), strip_width(int8));
  return panels * divide_up(heads, together) < threads * kAttentionTasks ? 0 : together;
}

void run_int8_attention(std::span<Tensor> out, std::span<const RoundedStream> rounded, const Qkv& in,
                        const Int8Workers& workers) {
  const Int8Ops& int8 = workers.functions.int8;
  const Int8AttentionOps& ops = *int8_attention_ops(int8);
  const int64_t heads = rounded.empty() ? 0 : heads_together(in, int8, workers.pool.threads());
  const RoundedShape shape(in, int8, heads);
  RoundedKeys keys(in, shape);
  keys.keep_in(workers.scratch.shared(static_cast<size_t>(keys.bytes())));
  keys.round(ops, workers);
  const RoundedTask::Call call = {out, rounded, in, shape, keys, workers, ops};
  const std::vector<AttentionTask> tasks =
      plan_attention(in, {shape.panel, shape.most_panels, std::max<int64_t>(1, heads)}, workers.pool.threads());
  workers.pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    RoundedTask(call, tasks[static_cast<size_t>(index)], workers.scratch.floats(worker, shape.attending_room(int8)))
        .run();
  });
}

}  // namespace inkstone
