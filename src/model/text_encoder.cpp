#include "model/text_encoder.h"

#include <algorithm>

#include "model/rope.h"

namespace inkstone {
namespace {

constexpr const char *kVisionTower = "visual.", *kLogits = "lm_head";

EncoderLayer load_layer(const TextEncoderConfig& c, WeightLoader& load, const std::string& name) {
  const int64_t q = c.heads * c.head_width;
  const int64_t kv = c.kv_heads * c.head_width;
  const std::string attn = name + ".self_attn.";
  const std::string mlp = name + ".mlp.";
  return {
      .input_norm = load.vector(name + ".input_layernorm.weight", c.width),
      .qkv = load.linear({{attn + "q_proj", q}, {attn + "k_proj", kv}, {attn + "v_proj", kv}}, c.width, Bias::present),
      .out = load.linear(attn + "o_proj", c.width, q, Bias::absent),
      .attention_norm = load.vector(name + ".post_attention_layernorm.weight", c.width),
      .gate_up =
          load.linear({{mlp + "gate_proj", c.intermediate}, {mlp + "up_proj", c.intermediate}}, c.width, Bias::absent),
      .down = load.linear(mlp + "down_proj", c.width, c.intermediate, Bias::absent),
  };
}

}  // namespace

bool is_unused_text_tensor(const Checkpoint& files, const std::string& name) {
  if (files.component != Component::text_encoder) return false;
  if (name.starts_with(kVisionTower) || name == kLogits + std::string(kWeightSuffix)) return true;
  if (!name.starts_with(kLogits)) return false;
  const auto packed = files.packed(kLogits);
  return packed && std::ranges::find(packed->parts, name) != packed->parts.end();
}

TextEncoderWeights load_text_encoder(const TextEncoderConfig& config, WeightLoader& loader) {
  TextEncoderWeights w;
  w.embedding = loader.table("model.embed_tokens.weight", config.vocabulary, config.width);
  for (int64_t i = 0; i < config.layers; ++i)
    w.layers.push_back(load_layer(config, loader, fmt::format("model.layers.{}", i)));
  w.norm = loader.vector("model.norm.weight", config.width);
  loader.ignore(kVisionTower);
  loader.ignore_layer(kLogits, Bias::absent);
  loader.finish();
  return w;
}

void tolerate_rounding(TextEncoderWeights& weights) {
  for (EncoderLayer& layer : weights.layers)
    for_each_linear(layer, [](Linear& part) {
      part.tolerance = std::make_shared<Tolerance>();
      part.tolerance->often_used = false;
    });
}

Tensor encoder_layer(Ops& ops, const TextEncoderConfig& config, const EncoderLayer& layer, const Tensor& x,
                     const QkvPart& positions) {
  const Heads heads = {.heads = config.heads, .kv_heads = config.kv_heads, .width = config.head_width};
  const NormOptions norm = {.eps = config.norm_eps};

  QkvPart part = positions;
  part.qkv = ops.linear(ops.rms_norm(x, layer.input_norm, norm), layer.qkv);
  const Tensor attended = ops.attention(ops.join_qkv({part}, heads), {.causal = true}).front();
  const Tensor y = ops.linear(attended, layer.out, {.residual = x});

  const Tensor gate_up = ops.linear(ops.rms_norm(y, layer.attention_norm, norm), layer.gate_up);
  return ops.linear(ops.swiglu(gate_up), layer.down, {.residual = y});
}

Tensor encode_text(Ops& ops, const TextEncoderConfig& config, const TextEncoderWeights& weights, const Tensor& ids,
                   const Sequences& sequences, const std::function<void()>& layer_done) {
  const Tensor rope = ops.upload(text_encoder_rope(sequences, config.head_width, config.rope_theta));
  const QkvPart positions = {.sequences = &sequences, .rope = {rope, RopeTable::Pairs::halves}};
  Tensor x = ops.embed(weights.embedding, ids);  // (n, d)
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    x = encoder_layer(ops, config, weights.layer(i), x, positions);
    layer_done();
  }
  return ops.rms_norm(x, weights.norm, {.eps = config.norm_eps});
}

}  // namespace inkstone
