#include "engine/quantize_layout.h"

#include "cpu/int8_factors.h"
#include "model/config_file.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "ops/dry_device.h"

namespace inkstone {
namespace {

std::vector<std::string> names_of(const Linear& layer) {
  std::vector<std::string> names;
  for (const Slab& slab : layer.slabs) names.push_back(slab.name);
  return names;
}

template <class Config, class Weights>
Weights bind(const Checkpoint& files, Config (*read)(const Checkpoint&, ConfigOrigin&),
             Weights (*load)(const Config&, WeightLoader&)) {
  ConfigOrigin origin;
  const Config config = read(files, origin);
  const auto device = make_dry_device();
  WeightLoader loader(files, *device);
  return load(config, loader);
}

}  // namespace

Tensor MixedLayer::factors(ThreadPool& pool) {
  if (factors_) return factors_;
  Linear layer = {.tolerance = std::make_shared<Tolerance>()};
  for (const Weight& matrix : matrices_) layer.slabs.push_back({.weight = matrix});
  return factors_ = host_tensor(int8_factors(layer, pool, vector_ops()).of_input);
}

std::vector<std::vector<std::string>> layers_in_8_bits(const Checkpoint& files) {
  std::vector<std::vector<std::string>> layers;
  if (files.component == Component::transformer) {
    TransformerWeights weights = bind(files, read_transformer_config, load_transformer);
    for (BlockWeights& block : weights.blocks)
      for_each_block_layer(block, [&](const Linear& layer) {
        if (layer.tolerance) layers.push_back(names_of(layer));
      });
  } else if (files.component == Component::text_encoder) {
    TextEncoderWeights weights = bind(files, read_text_encoder_config, load_text_encoder);
    for (EncoderLayer& part : weights.layers)
      for_each_linear(part, [&](const Linear& layer) { layers.push_back(names_of(layer)); });
  }
  return layers;
}

}  // namespace inkstone
