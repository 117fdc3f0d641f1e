// Two blocks of the full-size transformer in turns: computed where they are resident, read alone, and streamed, which
// reads one while the other computes. Streaming is to cost at most 1.15 of the longer of the two.
#include <array>

#include "cpu/cpu_device.h"
#include "engine/streamed_blocks.h"
#include "io/checkpoint.h"
#include "model/transformer.h"
#include "ops/ops.h"
#include "random_model_files.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kLayers = 2;
constexpr int64_t kTextTokens = 64;
constexpr int64_t kPixelsOfToken = 16;
constexpr size_t kPasses = 3;

struct Blocks {
  Blocks(const std::string& format, int64_t size, Caching how)
      : model(format, kLayers),
        caching(how),
        files(open_checkpoint(model.folder / "transformer", Component::transformer)),
        device(make_cpu_device({})),
        ops(*device) {
    config.layers = kLayers;
    WeightLoader loader(files, *device);
    resident = load_transformer(config, loader);
    const Transformer transformer(config, resident);
    const std::vector<float> time = {0.5f};
    tables = transformer.modulate(ops, ops.upload(host_tensor(time)));
    rows = Transformer::rows_of_step(ops, 0, 1);
    condition =
        transformer.condition(ops, random_normal({kTextTokens, config.text_width}, 1), Sequences::equal(1, kTextTokens),
                              {.height = size / kPixelsOfToken, .width = size / kPixelsOfToken});
    img = random_normal({condition.img_rows.rows(), config.width()}, 2);
    streaming = resident;
    streaming.block_source = streamed(resident.blocks, kBlockLayers, all_of(resident.blocks), caching, {});
    parts = file_blocks(resident.blocks, kBlockLayers, all_of(resident.blocks));
  }

  void compute(const TransformerWeights& weights) {
    Transformer::Streams x = {.txt = condition.txt, .img = img};
    for (size_t i = 0; i < weights.blocks.size(); ++i)
      x = Transformer(config, weights).block(ops, i, x, condition, tables, rows);
  }

  /// All blocks once, without the reading ahead of the next pass' first one: that would be half of the work.
  double read_seconds() {
    BlockReader reader(parts, caching);
    reader.get(0);
    return seconds_of([&] {
      for (size_t i = 1; i <= parts.size(); ++i) reader.get(i % parts.size());
    });
  }

  RandomModelFiles model;
  Caching caching;
  Checkpoint files;
  std::unique_ptr<Device> device;
  Ops ops;
  TransformerConfig config;
  TransformerWeights resident, streaming;
  ModulationTables tables;
  StepRows rows;
  Conditioning condition;
  Tensor img;
  std::vector<FileBlock> parts;
};

/// Arguments: the format, pixels of a side, 1 to read around the system's cache.
void stream(benchmark::State& state) {
  constexpr std::array kFormats = {"bf16", "int8", "int4"};
  Blocks blocks(kFormats[static_cast<size_t>(state.range(0))], state.range(1),
                state.range(2) != 0 ? Caching::direct : Caching::cached);
  blocks.compute(blocks.resident);
  blocks.compute(blocks.streaming);
  std::vector<double> compute, read, both, ratio;
  for (auto _ : state)
    for (size_t i = 0; i < kPasses; ++i) {
      compute.push_back(seconds_of([&] { blocks.compute(blocks.resident); }));
      read.push_back(blocks.read_seconds());
      both.push_back(seconds_of([&] { blocks.compute(blocks.streaming); }));
      ratio.push_back(both.back() / std::max(compute.back(), read.back()));
    }
  state.counters["compute_s"] = median(compute);
  state.counters["read_s"] = median(read);
  state.counters["streamed_s"] = median(both);
  state.counters["of_longer"] = median(ratio);
  state.SetLabel(kFormats[static_cast<size_t>(state.range(0))]);
}
BENCHMARK(stream)
    ->ArgsProduct({{0, 1, 2}, {256, 512}, {0, 1}})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace inkstone
