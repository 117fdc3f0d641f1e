// A whole block of the full-size transformer, attention and norms included, beside what oneDNN needs for the block's
// matrix products alone. The two take turns, so that both see the same machine.
#include <chrono>

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

  Ops& ops;
  TransformerConfig config;
  TransformerWeights weights;
  ModulationTables tables;
  StepRows rows;
  Conditioning condition;
  Tensor img;
};

/// The products of a layer's slabs, into the columns of one result.
double multiply(const Linear& layer, int64_t rows, const Tensor& x, const Tensor& y) {
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
  return 2.0 * static_cast<double>(rows * layer.in() * layer.out());
}

/// All products of a block; gives their operations.
double multiply(const BlockRun& block, const Tensor& x, const Tensor& y) {
  double flop = 0;
  const auto stream = [&](const StreamWeights& w, int64_t rows) {
    for (const Linear* layer : {&w.qkv, &w.out, &w.up, &w.down}) flop += multiply(*layer, rows, x, y);
  };
  stream(block.weights.blocks[0].txt, kTextTokens);
  stream(block.weights.blocks[0].img, block.img.dim(0));
  return flop;
}

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void block(benchmark::State& state, RandomFormat format) {
  const auto device = make_cpu_device();
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors());
  const BlockRun run(ops, random, state.range(0));
  RandomWeights random_f32(*device, RandomFormat::f32, usable_processors());
  const BlockRun f32 = format == RandomFormat::f32 ? run : BlockRun(ops, random_f32, state.range(0));
  const int64_t widest = f32.weights.blocks[0].img.down.in();
  const Tensor x = random.activations({f32.img.dim(0), widest}), y = host_tensor({f32.img.dim(0), widest}, DType::f32);

  const OneDnnThreads threads(usable_processors());
  double flop = multiply(f32, x, y);
  run.run();
  std::vector<double> ours, peer;
  const double peak = measure_f32_peak(usable_processors());
  for (auto _ : state) {
    ours.push_back(seconds_of([&] { benchmark::DoNotOptimize(run.run()); }));
    peer.push_back(seconds_of([&] { flop = multiply(f32, x, y); }));
    state.SetIterationTime(ours.back());
  }
  const auto n = static_cast<double>(f32.img.dim(0) + kTextTokens);
  flop += 4 * n * n * static_cast<double>(f32.config.width());
  report(state, flop, peak);
  state.counters["median_s"] = median(ours);
  state.counters["onednn_s"] = median(peer);
  state.counters["ratio"] = median(ours) / median(peer);
}

#define INKSTONE_BLOCK(name) \
  BENCHMARK_CAPTURE(block, name, RandomFormat::name)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(7)

INKSTONE_BLOCK(f32)->Arg(512)->Arg(1024);
INKSTONE_BLOCK(bf16)->Arg(512);
INKSTONE_BLOCK(int4)->Arg(512);

}  // namespace
}  // namespace inkstone
