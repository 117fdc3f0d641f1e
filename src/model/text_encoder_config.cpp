// text_encoder/config.json (Qwen2_5_VLConfig of transformers).
#include <algorithm>
#include <array>
#include <string_view>

#include "model/config_file.h"

namespace inkstone {
namespace {

constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr std::array<std::string_view, 2> kArchitectures = {"Qwen2_5_VLForConditionalGeneration",
                                                            "Qwen2_5_VLTextModel"};

/// Positions are the same on all three axes of a text, so mrope is the ordinary rotary embedding.
bool is_plain_rope(const std::string& type) { return type == "default" || type == "mrope"; }

/// RoPE's base: in rope_parameters since transformers 5, beside the other fields before. Scaled variants are refused.
double read_rope_theta(const JsonFile& f, double published) {
  double theta = f.number_or("rope_theta", published);
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    if (!f.has(field)) continue;
    const JsonFile rope = f.child(field);
    for (const char* type : {"rope_type", "type"})
      if (!is_plain_rope(rope.text_or(type, "default"))) rope.refuse(type, "\"default\" or \"mrope\"");
    theta = rope.number_or("rope_theta", theta);
  }
  check(theta > 1, "{}: rope_theta is {}, more than 1 is needed", f.path().string(), theta);
  return theta;
}

void refuse_variants(const JsonFile& f) {
  if (f.text_or("hidden_act", "silu") != "silu") f.refuse("hidden_act", "\"silu\"");
  refuse_variant(f, "use_sliding_window");
  if (!f.has("layer_types")) return;
  const auto types = f.texts("layer_types");
  if (std::any_of(types.begin(), types.end(), [](const std::string& t) { return t != "full_attention"; }))
    f.refuse("layer_types", "\"full_attention\" for every layer");
}

/// Sizes, eps and heads by the names that a file has for them.
struct FieldNames {
  const char *width, *intermediate, *layers, *heads, *kv_heads, *norm_eps;
};
constexpr FieldNames kConfigNames = {"hidden_size",         "intermediate_size",   "num_hidden_layers",
                                     "num_attention_heads", "num_key_value_heads", "rms_norm_eps"};
constexpr const char* kArchitecture = "qwen2vl";  // llama.cpp's name
constexpr FieldNames kGgufNames = {
    "qwen2vl.embedding_length",     "qwen2vl.feed_forward_length",     "qwen2vl.block_count",
    "qwen2vl.attention.head_count", "qwen2vl.attention.head_count_kv", "qwen2vl.attention.layer_norm_rms_epsilon"};

TextEncoderConfig read_sizes(const JsonFile& f, const FieldNames& names) {
  TextEncoderConfig c;
  c.width = f.integer(names.width, 1, kMaxWidth);
  c.intermediate = f.integer(names.intermediate, 1, kMaxWidth);
  c.layers = f.integer(names.layers, 1, kMaxLayers);
  c.heads = f.integer(names.heads, 1, kMaxHeads);
  c.kv_heads = f.integer(names.kv_heads, 1, c.heads);
  c.norm_eps = static_cast<float>(f.number(names.norm_eps));

  if (!(c.norm_eps > 0 && c.norm_eps < 1)) f.refuse(names.norm_eps, "a number above 0 and below 1");
  if (c.width % (2 * c.heads) != 0)
    f.refuse(names.heads, fmt::format("a number of heads of even width in {} {}", names.width, c.width));
  if (c.heads % c.kv_heads != 0) f.refuse(names.kv_heads, fmt::format("a divisor of {} {}", names.heads, c.heads));
  c.head_width = c.width / c.heads;
  return c;
}

TextEncoderConfig language_part(const JsonFile& f) {
  refuse_variants(f);
  TextEncoderConfig c = read_sizes(f, kConfigNames);
  c.vocabulary = f.integer("vocab_size", 1, kMaxVocabulary);
  c.rope_theta = read_rope_theta(f, c.rope_theta);
  if (f.integer_or("head_dim", c.head_width, 1, kMaxWidth) != c.head_width)
    f.refuse("head_dim", fmt::format("hidden_size / num_attention_heads = {}", c.head_width));
  return c;
}

/// The field says which class wrote the weights; older files may lack it.
void check_architecture(const JsonFile& f) {
  if (!f.has("architectures")) return;
  const auto names = f.texts("architectures");
  const bool known = names.size() == 1 &&
                     std::find(kArchitectures.begin(), kArchitectures.end(), names.front()) != kArchitectures.end();
  if (!known) f.refuse("architectures", fmt::format("[\"{}\"]", kArchitectures.front()));
}

void check_type(const JsonFile& f) {
  const std::string type = f.text("model_type");
  if (type != "qwen2_5_vl" && type != "qwen2_5_vl_text") f.refuse("model_type", "\"qwen2_5_vl\"");
}

TextEncoderConfig from_file(const JsonFile& f) {
  check_type(f);
  check_architecture(f);
  refuse_quantization(f);
  if (!f.has("text_config")) return language_part(f);  // older files have one level
  const JsonFile language = f.child("text_config");
  if (language.has("model_type")) check_type(language);
  return language_part(language);
}

/// Some converters write the architecture alone.
bool tells_sizes(const JsonFile& metadata) {
  const auto names = {kGgufNames.width, kGgufNames.intermediate, kGgufNames.layers,
                      kGgufNames.heads, kGgufNames.kv_heads,     kGgufNames.norm_eps};
  return std::ranges::any_of(names, [&](const char* name) { return metadata.has(name); });
}

/// GGUF's metadata have all but the vocabulary, which its tokens may exceed or not fill.
TextEncoderConfig from_metadata(const JsonFile& f, const Checkpoint& checkpoint) {
  constexpr const char* kRopeTheta = "qwen2vl.rope.freq_base";
  TextEncoderConfig c = read_sizes(f, kGgufNames);
  c.vocabulary = telling_shape(checkpoint, "model.embed_tokens.weight", 2)[0];
  c.rope_theta = f.number_or(kRopeTheta, c.rope_theta);
  if (!(c.rope_theta > 1)) f.refuse(kRopeTheta, "a number above 1");
  return c;
}

TextEncoderConfig from_shapes(const Checkpoint& checkpoint) {
  const std::string layer = "model.layers.0.";
  const std::string q = layer + "self_attn.q_proj.weight";
  const std::string k = layer + "self_attn.k_proj.weight";
  const std::string table = "model.embed_tokens.weight";
  TextEncoderConfig c;  // head width, eps and RoPE stay the published ones
  const Shape embedding = telling_shape(checkpoint, table, 2);
  check(embedding[1] == c.width, "{}: width {}; without a config.json only {} is known, that of Qwen2.5-VL-7B",
        describe(*checkpoint.find(table), table), embedding[1], c.width);
  c.vocabulary = embedding[0];
  c.layers = count_layers(checkpoint, "model.layers.");
  c.intermediate = telling_shape(checkpoint, layer + "mlp.gate_proj.weight", 2)[0];
  c.heads = divided(checkpoint, q, telling_shape(checkpoint, q, 2)[0], c.head_width);
  c.kv_heads = divided(checkpoint, k, telling_shape(checkpoint, k, 2)[0], c.head_width);
  check(c.heads % c.kv_heads == 0, "{}: {} key heads do not divide {} query heads; a config.json is needed",
        describe(*checkpoint.find(k), k), c.kv_heads, c.heads);
  return c;
}

}  // namespace

TextEncoderConfig read_text_encoder_config(const Checkpoint& checkpoint, ConfigOrigin& origin) {
  origin = {};
  const auto metadata = find_metadata(checkpoint, kArchitecture);
  if (metadata && tells_sizes(*metadata)) return from_metadata(*metadata, checkpoint);
  if (const auto file = find_config(checkpoint)) return from_file(*file);
  const TextEncoderConfig c = from_shapes(checkpoint);
  origin = inferred_from(checkpoint,
                         fmt::format("{} layers, width {}, intermediate {}, vocabulary {}", c.layers, c.width,
                                     c.intermediate, c.vocabulary),
                         fmt::format("heads of {} ({}, {} for keys), eps {}, RoPE base {}", c.head_width, c.heads,
                                     c.kv_heads, c.norm_eps, c.rope_theta));
  return c;
}

}  // namespace inkstone
