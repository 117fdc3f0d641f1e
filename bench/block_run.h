// A block of the full-size transformer for the benchmarks.
#pragma once
#include "engine/random_weights.h"
#include "model/transformer.h"
#include "ops/ops.h"

namespace inkstone {

inline constexpr int64_t kTextTokens = 64;
inline constexpr int64_t kPixelsOfToken = 16;

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

}  // namespace inkstone
