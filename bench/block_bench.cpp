// A whole block of the full-size transformer, attention and norms included, beside what oneDNN needs for the block's
// matrix products alone. The two take turns, so that both see the same machine.
#include "cpu/cpu_device.h"
#include "engine/random_weights.h"
#include "model/transformer.h"
#include "onednn.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kTextTokens = 64;
constexpr int64_t kPixelsOfToken = 16;
constexpr size_t kKept = size_t{1} << 30;  // bytes: all of a block's rounded weights

/// A picture and its text on their way through a block that is not the last one.
struct BlockRun {
  BlockRun(Ops& ops_of_device, RandomWeights& random, int64_t size) : ops(ops_of_device) {
    config.layers = 1;
    weights = load_transformer(config, random);
    weights.blocks.push_back(weights.blocks.front());
    const Transformer transformer(config, weights);
    const std::vector<float> time = {0.5f};
    tables = transformer.modulate(ops, ops.upload(host_tensor(time)));
    rows = Transformer::rows_of_step(ops, 0, 1);
    condition = transformer.condition(ops, random.activations({kTextTokens, config.text_width}),
                                      Sequences::equal(1, kTextTokens),
                                      {.height = size / kPixelsOfToken, .width = size / kPixelsOfToken});
    img = random.activations({condition.img_rows.rows(), config.width()});
  }

  Transformer::Streams run() const {
    return Transformer(config, weights).block(ops, 0, {.txt = condition.txt, .img = img}, condition, tables, rows);
  }

  /// each(layer, rows) for the linear layers of both streams.
  void for_layers(const auto& each) const {
    const auto stream = [&](const StreamWeights& w, int64_t stream_rows) {
      for (const Linear* layer : {&w.qkv, &w.out, &w.up, &w.down}) each(*layer, stream_rows);
    };
    stream(weights.blocks[0].txt, kTextTokens);
    stream(weights.blocks[0].img, img.dim(0));
  }

  int64_t widest() const { return weights.blocks[0].img.down.in(); }

  double flop() const {
    double linear = 0;
    for_layers(
        [&](const Linear& layer, int64_t n) { linear += 2.0 * static_cast<double>(n * layer.in() * layer.out()); });
    const auto n = static_cast<double>(img.dim(0) + kTextTokens);
    return linear + 4 * n * n * static_cast<double>(config.width());
  }

  Ops& ops;
  TransformerConfig config;
  TransformerWeights weights;
  ModulationTables tables;
  StepRows rows;
  Conditioning condition;
  Tensor img;
};

/// All products of a block by the peer, on numbers that need not be the block's.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual void run() = 0;
};

/// The products of a layer's slabs, into the columns of one result.
void multiply(const Linear& layer, int64_t rows, const Tensor& x, const Tensor& y) {
  int64_t column = 0;
  for (const Slab& slab : layer.slabs) {
    gemm({.m = rows,
          .n = slab.weight.out,
          .k = layer.in(),
          .x = x.data<float>(),
          .x_stride = layer.in(),
          .w = slab.weight.data.data<float>(),
          .w_stride = layer.in(),
          .y = y.data<float>() + column,
          .y_stride = layer.out()});
    column += slab.weight.out;
  }
}

class F32Peer final : public Peer {
 public:
  F32Peer(Device& device, Ops& ops, int64_t size)
      : random_(device, RandomFormat::f32, usable_processors()),
        block_(ops, random_, size),
        x_(random_.activations({block_.img.dim(0), block_.widest()})),
        y_(host_tensor(x_.shape(), DType::f32)) {}

  void run() override {
    block_.for_layers([&](const Linear& layer, int64_t rows) { multiply(layer, rows, x_, y_); });
  }

 private:
  RandomWeights random_;
  BlockRun block_;
  Tensor x_, y_;
};

class Int8Peer final : public Peer {
 public:
  explicit Int8Peer(const BlockRun& block) {
    block.for_layers([&](const Linear& layer, int64_t rows) {
      for (const Slab& slab : layer.slabs)
        products_.push_back(std::make_unique<OneDnnInt8Product>(rows, slab.weight.out, layer.in()));
    });
  }

  void run() override {
    for (const auto& product : products_) product->run();
  }

 private:
  std::vector<std::unique_ptr<OneDnnInt8Product>> products_;
};

void block(benchmark::State& state, RandomFormat format, bool int8) {
  const auto device = make_cpu_device({.int8 = int8, .keep_rounded = kKept});
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors());
  const BlockRun run(ops, random, state.range(0));
  std::unique_ptr<Peer> onednn;
  if (int8)
    onednn = std::make_unique<Int8Peer>(run);
  else
    onednn = std::make_unique<F32Peer>(*device, ops, state.range(0));

  const OneDnnThreads threads(usable_processors());
  onednn->run();
  run.run();
  std::vector<double> ours, peer;
  const auto measure_peak = int8 ? measure_int8_peak : measure_f32_peak;
  const double peak = measure_peak(usable_processors());
  for (auto _ : state) {
    ours.push_back(seconds_of([&] { benchmark::DoNotOptimize(run.run()); }));
    peer.push_back(seconds_of([&] { onednn->run(); }));
    state.SetIterationTime(ours.back());
  }
  report(state, run.flop(), peak, measure_peak);
  state.counters["median_s"] = median(ours);
  state.counters["onednn_s"] = median(peer);
  state.counters["ratio"] = median(ours) / median(peer);
}

/// A LoRA of this rank beside every layer of the block.
BlockRun with_lora(BlockRun run, RandomWeights& random, int64_t rank) {
  BlockWeights& block = run.weights.blocks[0];
  for (StreamWeights* stream : {&block.txt, &block.img})
    for (Linear* layer : {&stream->qkv, &stream->out, &stream->up, &stream->down}) {
      layer->tolerance = std::make_shared<Tolerance>();  // of its own: the other's would lack the branches
      for (Slab& slab : layer->slabs) {
        const auto half = [&](int64_t out, int64_t in) {
          return random.linear({{"half", out}}, in, Bias::absent).slabs.front().weight;
        };
        slab.branches.push_back({half(rank, slab.weight.in), half(slab.weight.out, rank)});
      }
    }
  return run;
}

/// The block with a LoRA beside the block without, taking turns. Arguments: size, rank.
void lora(benchmark::State& state, RandomFormat format, bool int8) {
  const auto device = make_cpu_device({.int8 = int8, .keep_rounded = kKept});
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors()), of_lora(*device, RandomFormat::bf16, usable_processors());
  const BlockRun plain(ops, random, state.range(0)), changed = with_lora(plain, of_lora, state.range(1));
  plain.run();
  changed.run();
  std::vector<double> without, with;
  for (auto _ : state) {
    without.push_back(seconds_of([&] { benchmark::DoNotOptimize(plain.run()); }));
    with.push_back(seconds_of([&] { benchmark::DoNotOptimize(changed.run()); }));
    state.SetIterationTime(with.back());
  }
  state.counters["median_s"] = median(with);
  state.counters["plain_s"] = median(without);
  state.counters["ratio"] = median(with) / median(without);
}

#define INKSTONE_BLOCK(name, format, int8)                   \
  BENCHMARK_CAPTURE(block, name, RandomFormat::format, int8) \
      ->UseManualTime()                                      \
      ->Unit(benchmark::kMillisecond)                        \
      ->Iterations(7)

INKSTONE_BLOCK(f32, f32, false)->Arg(512)->Arg(1024);
INKSTONE_BLOCK(bf16, bf16, false)->Arg(512);
INKSTONE_BLOCK(int4, int4, false)->Arg(512);
INKSTONE_BLOCK(int8_by_int8, int8, true)->Arg(512)->Arg(1024);
INKSTONE_BLOCK(int4_by_int8, int4, true)->Arg(512);

#define INKSTONE_LORA(name, format, int8)                   \
  BENCHMARK_CAPTURE(lora, name, RandomFormat::format, int8) \
      ->UseManualTime()                                     \
      ->Unit(benchmark::kMillisecond)                       \
      ->Iterations(7)

INKSTONE_LORA(bf16, bf16, false)->Args({512, 64})->Args({1024, 64});
INKSTONE_LORA(int4, int4, false)->Args({512, 64});
INKSTONE_LORA(int4_by_int8, int4, true)->Args({512, 64});

}  // namespace
}  // namespace inkstone
