// Qwen-Image-2512 itself, with the tensors that its published files list: all of them bind, none is missing or left
// over, and the parameters add up. Nothing is read but what the VAE folds, so the 41 GB cost only addresses.
#include <sys/mman.h>

#include "model/parity.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"

namespace inkstone {
namespace {

/// Zeros without memory, enough for the largest tensor.
struct Zeros final : Buffer {
  static constexpr size_t kBytes = size_t{152064} * 3584 * sizeof(float);
  Zeros() : Buffer(mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), kBytes) {
    if (data == MAP_FAILED) throw std::runtime_error("no addresses for zeros");
  }
  ~Zeros() override { munmap(data, bytes); }
};

/// A checkpoint that is listed instead of opened.
class Listed {
 public:
  explicit Listed(Component component) { checkpoint_.component = component; }

  void add(const std::string& name, const Shape& shape) {
    checkpoint_.tensors[name] = {.data = Tensor(zeros_, 0, shape, DType::f32), .file = "listed", .name = name};
  }
  void add_layer(const std::string& name, const Shape& weight) {
    add(name + ".weight", weight);
    add(name + ".bias", {weight[0]});
  }

  const Checkpoint& checkpoint() const { return checkpoint_; }
  size_t tensors() const { return checkpoint_.tensors.size(); }
  int64_t parameters() const {
    int64_t sum = 0;
    for (const auto& [name, tensor] : checkpoint_.tensors) sum += tensor.data.count();
    return sum;
  }

 private:
  std::shared_ptr<Buffer> zeros_ = std::make_shared<Zeros>();
  Checkpoint checkpoint_;
};

/// Counts the parameters of the layers that a model asks for.
class CountingLoader final : public WeightLoader {
 public:
  using WeightLoader::linear;
  using WeightLoader::WeightLoader;

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) override {
    Linear layer = WeightLoader::linear(slabs, in, bias);
    parameters += layer.out() * layer.in();
    for (const Slab& slab : layer.slabs) parameters += slab.bias ? slab.bias.count() : 0;
    return layer;
  }
  Weight table(const std::string& name, int64_t rows, int64_t width) override {
    parameters += rows * width;
    return WeightLoader::table(name, rows, width);
  }
  Tensor vector(const std::string& name, int64_t n) override {
    parameters += n;
    return WeightLoader::vector(name, n);
  }
  Conv2d conv2d(const std::string& name, int64_t out, int64_t in) override {
    Conv2d conv = WeightLoader::conv2d(name, out, in);
    parameters += conv.weight.count();
    return conv;
  }

  int64_t parameters = 0;
};

Listed list_transformer() {
  constexpr int64_t d = 3072;
  Listed all(Component::transformer);
  all.add_layer("img_in", {d, 64});
  all.add("txt_norm.weight", {3584});
  all.add_layer("txt_in", {d, 3584});
  all.add_layer("time_text_embed.timestep_embedder.linear_1", {d, 256});
  all.add_layer("time_text_embed.timestep_embedder.linear_2", {d, d});
  all.add_layer("norm_out.linear", {2 * d, d});
  all.add_layer("proj_out", {64, d});
  for (int i = 0; i < 60; ++i) {
    const std::string block = fmt::format("transformer_blocks.{}.", i);
    for (const char* name :
         {"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"})
      all.add_layer(block + "attn." + name, {d, d});
    for (const char* name : {"norm_q", "norm_k", "norm_added_q", "norm_added_k"})
      all.add(block + "attn." + name + ".weight", {128});
    for (const char* stream : {"img", "txt"}) {
      all.add_layer(block + stream + "_mod.1", {6 * d, d});
      all.add_layer(block + stream + "_mlp.net.0.proj", {4 * d, d});
      all.add_layer(block + stream + "_mlp.net.2", {d, 4 * d});
    }
  }
  return all;
}

void list_language(Listed& all) {
  constexpr int64_t d = 3584, kv = 512, mlp = 18944;
  all.add("model.embed_tokens.weight", {152064, d});
  all.add("model.norm.weight", {d});
  for (int i = 0; i < 28; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    all.add(layer + "input_layernorm.weight", {d});
    all.add(layer + "post_attention_layernorm.weight", {d});
    all.add_layer(layer + "self_attn.q_proj", {d, d});
    all.add_layer(layer + "self_attn.k_proj", {kv, d});
    all.add_layer(layer + "self_attn.v_proj", {kv, d});
    all.add(layer + "self_attn.o_proj.weight", {d, d});
    all.add(layer + "mlp.gate_proj.weight", {mlp, d});
    all.add(layer + "mlp.up_proj.weight", {mlp, d});
    all.add(layer + "mlp.down_proj.weight", {d, mlp});
  }
}

void list_vision(Listed& all) {
  constexpr int64_t d = 1280, mlp = 3420;
  all.add("visual.patch_embed.proj.weight", {d, 3, 2, 14, 14});
  for (int i = 0; i < 32; ++i) {
    const std::string block = fmt::format("visual.blocks.{}.", i);
    all.add(block + "norm1.weight", {d});
    all.add(block + "norm2.weight", {d});
    all.add_layer(block + "attn.qkv", {3 * d, d});
    all.add_layer(block + "attn.proj", {d, d});
    all.add_layer(block + "mlp.gate_proj", {mlp, d});
    all.add_layer(block + "mlp.up_proj", {mlp, d});
    all.add_layer(block + "mlp.down_proj", {d, mlp});
  }
  all.add("visual.merger.ln_q.weight", {d});
  all.add_layer("visual.merger.mlp.0", {4 * d, 4 * d});
  all.add_layer("visual.merger.mlp.2", {3584, 4 * d});
}

void list_res(Listed& all, const std::string& name, int64_t in, int64_t out) {
  all.add(name + ".norm1.gamma", {in, 1, 1, 1});
  all.add_layer(name + ".conv1", {out, in, 3, 3, 3});
  all.add(name + ".norm2.gamma", {out, 1, 1, 1});
  all.add_layer(name + ".conv2", {out, out, 3, 3, 3});
  if (in != out) all.add_layer(name + ".conv_shortcut", {out, in, 1, 1, 1});
}

void list_middle(Listed& all, const std::string& name) {
  list_res(all, name + ".resnets.0", 384, 384);
  all.add(name + ".attentions.0.norm.gamma", {384, 1, 1});
  all.add_layer(name + ".attentions.0.to_qkv", {3 * 384, 384, 1, 1});
  all.add_layer(name + ".attentions.0.proj", {384, 384, 1, 1});
  list_res(all, name + ".resnets.1", 384, 384);
}

void list_vae_encoder(Listed& all) {
  const std::string down = "encoder.down_blocks.";
  all.add_layer("encoder.conv_in", {96, 3, 3, 3, 3});
  const std::array<std::pair<int64_t, int64_t>, 11> blocks = {{{96, 96},
                                                               {96, 96},
                                                               {96, 0},
                                                               {96, 192},
                                                               {192, 192},
                                                               {192, 0},
                                                               {192, 384},
                                                               {384, 384},
                                                               {384, 0},
                                                               {384, 384},
                                                               {384, 384}}};
  for (size_t k = 0; k < blocks.size(); ++k) {
    const std::string name = down + std::to_string(k);
    const auto [in, out] = blocks[k];
    if (out != 0) {
      list_res(all, name, in, out);
      continue;
    }
    all.add_layer(name + ".resample.1", {in, in, 3, 3});
    if (k > 2) all.add_layer(name + ".time_conv", {in, in, 3, 1, 1});
  }
  list_middle(all, "encoder.mid_block");
  all.add("encoder.norm_out.gamma", {384, 1, 1, 1});
  all.add_layer("encoder.conv_out", {32, 384, 3, 3, 3});
  all.add_layer("quant_conv", {32, 32, 1, 1, 1});
}

void list_vae_decoder(Listed& all) {
  all.add_layer("post_quant_conv", {16, 16, 1, 1, 1});
  all.add_layer("decoder.conv_in", {384, 16, 3, 3, 3});
  list_middle(all, "decoder.mid_block");
  const std::array<std::pair<int64_t, int64_t>, 4> stages = {{{384, 384}, {192, 384}, {192, 192}, {96, 96}}};
  for (size_t u = 0; u < stages.size(); ++u) {
    const std::string stage = fmt::format("decoder.up_blocks.{}.", u);
    const auto [in, out] = stages[u];
    for (int r = 0; r < 3; ++r) list_res(all, fmt::format("{}resnets.{}", stage, r), r == 0 ? in : out, out);
    if (u < 3) all.add_layer(stage + "upsamplers.0.resample.1", {out / 2, out, 3, 3});
    if (u < 2) all.add_layer(stage + "upsamplers.0.time_conv", {2 * out, out, 3, 1, 1});
  }
  all.add("decoder.norm_out.gamma", {96, 1, 1, 1});
  all.add_layer("decoder.conv_out", {3, 96, 3, 3, 3});
}

class FullSizeTest : public ::testing::Test, protected OnDevice {
 protected:
  FullSizeTest() : OnDevice("reference") {}
};

TEST_F(FullSizeTest, Transformer) {
  const Listed all = list_transformer();
  EXPECT_EQ(all.tensors(), 1933u);
  EXPECT_EQ(all.parameters(), 20'430'401'088);
  CountingLoader loader(all.checkpoint(), *device_);
  EXPECT_EQ(load_transformer(TransformerConfig{}, loader).blocks.size(), 60u);
  EXPECT_EQ(loader.parameters, 20'430'401'088);
}

TEST_F(FullSizeTest, TextEncoderNeedsItsLanguagePartOnly) {
  Listed needed(Component::text_encoder);
  list_language(needed);
  EXPECT_EQ(needed.tensors(), 338u);
  EXPECT_EQ(needed.parameters(), 7'070'619'136);
  CountingLoader loader(needed.checkpoint(), *device_);
  EXPECT_EQ(load_text_encoder(TextEncoderConfig{}, loader).layers.size(), 28u);
  EXPECT_EQ(loader.parameters, 7'070'619'136);
}

TEST_F(FullSizeTest, TextEncoderWithVisionTower) {
  Listed all(Component::text_encoder);
  list_language(all);
  list_vision(all);
  all.add("lm_head.weight", {152064, 3584});
  EXPECT_EQ(all.tensors(), 729u);
  EXPECT_EQ(all.parameters(), 8'292'166'656);
  CountingLoader loader(all.checkpoint(), *device_);
  load_text_encoder(TextEncoderConfig{}, loader);
  EXPECT_EQ(loader.parameters, 7'070'619'136);
}

TEST_F(FullSizeTest, Vae) {
  Listed all(Component::vae);
  list_vae_encoder(all);
  list_vae_decoder(all);
  EXPECT_EQ(all.tensors(), 194u);
  EXPECT_EQ(all.parameters(), 126'892'531);
  CountingLoader loader(all.checkpoint(), *device_);
  VaeConfig config;
  const VaeWeights weights = load_vae(config, loader);
  EXPECT_EQ(weights.decoder.stages.size(), 4u);
  EXPECT_EQ(weights.encoder.stages.size(), 4u);
  EXPECT_EQ(loader.parameters, 44'599'603) << "what one frame needs";
}

}  // namespace
}  // namespace inkstone
