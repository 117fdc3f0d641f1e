// LoRAs beside the layers of small random models compute what weights do that they were added to.
#include "io/lora.h"

#include "io/files.h"
#include "io/lora_files.h"
#include "model/parity.h"
#include "model/transformer.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

constexpr double kMergedTolerance = 1e-5;  // of a velocity, relative, in f32

/// Layers that a checkpoint has, with the shapes (out, in) of their matrices.
std::map<std::string, Shape> layers_of(const Checkpoint& files) {
  std::map<std::string, Shape> layers;
  for (const auto& [name, tensor] : files.tensors) {
    if (!name.ends_with(kWeightSuffix)) continue;
    const auto shape = files.shape_of(name);
    if (shape->rank() == 2) layers[name.substr(0, name.size() - kWeightSuffix.size())] = *shape;
  }
  return layers;
}

/// Every layer changed by about a third of its size: ranks from 1 to 5, types and alphas of all kinds.
std::map<std::string, LoraPair> random_pairs(const Checkpoint& files, bool with_alphas, uint64_t seed) {
  std::map<std::string, LoraPair> pairs;
  for (const auto& [layer, shape] : layers_of(files)) {
    seed += 2;
    const auto rank = static_cast<int64_t>(1 + seed / 2 % 5);
    LoraPair pair = {random_normal({rank, shape[1]}, seed, 0.3f / std::sqrt(static_cast<float>(shape[1]))),
                     random_normal({shape[0], rank}, seed + 1), std::nullopt};
    if (seed % 3 == 0) pair.down = as_bf16(pair.down);
    if (seed % 4 == 0) pair.up = as_f16(pair.up);
    if (with_alphas) pair.alpha = static_cast<float>(rank) * (seed % 8 == 0 ? 0.5f : 1.5f);
    pairs[layer] = pair;
  }
  return pairs;
}

std::vector<float> numbers_of(const Weight& weight) {
  std::vector<float> all(static_cast<size_t>(weight.out * weight.in));
  dequantize_rows(weight, 0, weight.out, all.data());
  return all;
}

/// weight += factor * up down, in f64 before it is rounded once.
void merge(const Tensor& weight, const LoraPair& pair, double scale) {
  const std::vector<float> down = numbers_of(dense_weight(pair.down)), up = numbers_of(dense_weight(pair.up));
  const auto rank = static_cast<size_t>(pair.down.dim(0)), in = static_cast<size_t>(weight.dim(1));
  const double factor = scale * (pair.alpha ? *pair.alpha / static_cast<double>(rank) : 1);
  float* w = weight.data<float>();
  for (size_t o = 0; o < static_cast<size_t>(weight.dim(0)); ++o)
    for (size_t i = 0; i < in; ++i) {
      double sum = 0;
      for (size_t r = 0; r < rank; ++r) sum += double{up[o * rank + r]} * down[r * in + i];
      w[o * in + i] = static_cast<float>(w[o * in + i] + factor * sum);
    }
}

class LoraParityTest : public ParityTest {
 protected:
  LoraParityTest() : plain_(checkpoint(Component::transformer)) {
    ConfigOrigin origin;
    config_ = read_transformer_config(plain_, origin);
  }

  static double tolerance() { return tolerance_of(GetParam().device, kMergedTolerance); }

  /// The same model with all matrices in f32.
  Checkpoint widened() const {
    Checkpoint wide = {.path = plain_.path, .component = plain_.component};
    for (const auto& [layer, shape] : layers_of(plain_)) {
      const auto packed = plain_.packed(layer);
      const std::string name = layer + std::string(kWeightSuffix);
      const Tensor all = host_tensor(shape, DType::f32);
      std::ranges::copy(numbers_of(packed ? packed->weight : dense_weight(plain_.find(name)->data)), all.data<float>());
      wide.tensors[name] = {all, plain_.path, name};
    }
    for (const auto& [name, tensor] : plain_.tensors)
      if (tensor.data.shape().rank() == 1) wide.tensors[name] = tensor;
    return wide;
  }

  void add(Checkpoint& files, const std::map<std::string, LoraPair>& pairs, const LoraSpelling& spelling,
           double scale) const {
    std::map<std::string, Tensor> tensors;
    for (const auto& [layer, pair] : pairs) add_pair(tensors, spelling, layer, pair);
    const fs::path file = folder_ / "lora.safetensors";
    write_safetensors(file, tensors);
    EXPECT_TRUE(attach_lora(files, read_lora(file), scale, Unmatched::refuse).empty());
    EXPECT_EQ(files.branches.size(), pairs.size());
  }

  static void merge_all(const Checkpoint& files, const std::map<std::string, LoraPair>& pairs, double scale) {
    for (const auto& [layer, pair] : pairs) merge(files.find(layer + std::string(kWeightSuffix))->data, pair, scale);
  }

  /// Two sequences at two times.
  Tensor velocity(const Checkpoint& files) { return velocity(files, *device_); }
  Tensor exact_velocity(const Checkpoint& files) { return velocity(files, *cpu_); }

  Checkpoint plain_;
  TransformerConfig config_;
  const TemporaryFolder folder_;

 private:
  Tensor velocity(const Checkpoint& files, Device& device) {
    Ops ops(device);
    WeightLoader loader(files, device, held());
    const TransformerWeights weights = load_transformer(config_, loader);
    const Transformer model(config_, weights);
    const Grid grid = {.height = 2, .width = 3};
    const std::vector<float> times = {0.9f, 0.3f};
    const std::vector<int32_t> block_rows = {0, 6}, head_rows = {0, 2};
    const auto condition = model.condition(ops, ops.upload(random_normal({9, config_.text_width}, 1)),
                                           Sequences(std::vector<int64_t>{4, 5}), grid);
    return ops.download(
        model.forward(ops, ops.upload(random_normal({2 * grid.tokens(), config_.in_channels}, 2)), condition,
                      model.modulate(ops, ops.upload(host_tensor(times))),
                      {.block = ops.upload(host_tensor(block_rows)), .head = ops.upload(host_tensor(head_rows))}));
  }

  std::unique_ptr<Device> cpu_ = make_device("cpu");
};

TEST_P(LoraParityTest, EverySpellingEqualsMergedWeights) {
  for (const bool with_alphas : {false, true}) {
    const auto pairs = random_pairs(plain_, with_alphas, 100);
    const Checkpoint merged = widened();
    merge_all(merged, pairs, 0.7);
    const Tensor expected = exact_velocity(merged);
    ASSERT_GT(relative_l2(velocity(plain_), expected), 0.1) << "a change that can be seen";
    for (const LoraSpelling& spelling : kLoraSpellings) {
      Checkpoint files = plain_;
      add(files, pairs, spelling, 0.7);
      EXPECT_LT(relative_l2(velocity(files), expected), tolerance()) << spelling.label << ", " << with_alphas;
    }
  }
}

TEST_P(LoraParityTest, SeveralAddUp) {
  Checkpoint files = plain_;
  const Checkpoint merged = widened();
  uint64_t seed = 100;
  for (const double scale : {0.5, -0.25, 1.0}) {
    const auto pairs = random_pairs(plain_, true, seed += 100);
    merge_all(merged, pairs, scale);
    add(files, pairs, kLoraSpellings[seed / 100 % kLoraSpellings.size()], scale);
  }
  EXPECT_LT(relative_l2(velocity(files), exact_velocity(merged)), tolerance());
}

TEST_P(LoraParityTest, ModulationIsFoldedIntoTheTables) {
  auto pairs = random_pairs(plain_, true, 100);
  std::erase_if(pairs, [](const auto& item) { return item.first.find("_mod.") == std::string::npos; });
  ASSERT_EQ(pairs.size(), 2 * static_cast<size_t>(config_.layers));
  Checkpoint files = plain_;
  add(files, pairs, kLoraSpellings[0], 1);
  const Checkpoint merged = widened();
  merge_all(merged, pairs, 1);
  const auto tables = [&](const Checkpoint& checkpoint) {
    WeightLoader loader(checkpoint, *device_, held());
    const TransformerWeights weights = load_transformer(config_, loader);
    const std::vector<float> times = {0.9f, 0.3f, 0.02f};
    return Transformer(config_, weights).modulate(ops_, ops_.upload(host_tensor(times)));
  };
  const ModulationTables with = tables(files), expected = tables(merged);
  for (size_t i = 0; i < expected.blocks.size(); ++i) {
    EXPECT_LT(relative_l2(ops_.download(with.blocks[i].txt), ops_.download(expected.blocks[i].txt)), tolerance());
    EXPECT_LT(relative_l2(ops_.download(with.blocks[i].img), ops_.download(expected.blocks[i].img)), tolerance());
  }
}

INKSTONE_ON_ALL_MODELS(LoraParityTest);
INKSTONE_ON_ROUNDED(LoraParityTest);

}  // namespace
}  // namespace inkstone
