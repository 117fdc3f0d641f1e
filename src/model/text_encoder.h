// The language part of Qwen2.5-VL as a prompt encoder (Qwen2_5_VLTextModel of transformers).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "io/weight_loader.h"
#include "model/block_source.h"
#include "model/config.h"
#include "ops/ops.h"

namespace inkstone {

/// Whether a tensor is one of a text encoder that no prompt needs: of the vision tower or the logits. Throws Error for
/// logits that are packed and incomplete.
bool is_unused_text_tensor(const Checkpoint& files, const std::string& name);

struct EncoderLayer {
  Tensor input_norm;      // (d)
  Linear qkv;             // d -> (heads + 2 kv_heads) * head_width
  Linear out;             // heads * head_width -> d
  Tensor attention_norm;  // (d), "post_attention_layernorm"
  Linear gate_up;         // d -> 2 * intermediate
  Linear down;            // intermediate -> d
};

struct TextEncoderWeights {
  Weight embedding;  // (vocabulary, d)
  std::vector<EncoderLayer> layers;
  Tensor norm;  // (d)
  WeightSource<EncoderLayer> source;

  const EncoderLayer& layer(size_t i) const { return source ? source(i) : layers[i]; }
};

/// The linear layers of a layer.
void for_each_linear(EncoderLayer& layer, const auto& visit) {
  for (Linear* part : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down}) visit(*part);
}

/// The tensors of all else.
void for_each_other_tensor(TextEncoderWeights& weights, const auto& visit) {
  for_each_tensor(weights.embedding, visit);
  visit(weights.norm);
  for (EncoderLayer& layer : weights.layers)
    for (Tensor* norm : {&layer.input_norm, &layer.attention_norm}) visit(*norm);
}

/// Binds the language part; vision tower and lm_head are known and not needed.
TextEncoderWeights load_text_encoder(const TextEncoderConfig& config, WeightLoader& loader);

/// Marks the layers' linear layers as tolerant of rounding. Nobody but a user can say so: real encoders have a few
/// channels that are thousands of times larger than the rest. A device keeps nothing but its look at the weights, since
/// a prompt passes them once.
void tolerate_rounding(TextEncoderWeights& weights);

/// Last hidden states after the final norm, (ids, d). `ids` i32, the prompts one after the other as `sequences` says.
/// `layer_done` is called after each layer.
Tensor encode_text(
    Ops& ops, const TextEncoderConfig& config, const TextEncoderWeights& weights, const Tensor& ids,
    const Sequences& sequences, const std::function<void()>& layer_done = [] {});

/// One layer on x (n, d); `rope` from text_encoder_rope. Exposed for benchmarks and streaming.
Tensor encoder_layer(Ops& ops, const TextEncoderConfig& config, const EncoderLayer& layer, const Tensor& x,
                     const QkvPart& positions);

}  // namespace inkstone
