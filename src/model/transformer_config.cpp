// transformer/config.json (QwenImageTransformer2DModel of diffusers).
#include "model/config_file.h"

namespace inkstone {
namespace {

constexpr const char* kClass = "QwenImageTransformer2DModel";
constexpr int64_t kMaxPatch = 16;
constexpr int64_t kMaxChannels = 4096;
constexpr int64_t kMaxHeadWidth = 1024;

void check_consistent(const TransformerConfig& c, const std::string& file) {
  const auto& axes = c.rope_axes;
  check(axes[0] % 2 == 0 && axes[1] % 2 == 0 && axes[2] % 2 == 0,
        "{}: field axes_dims_rope is {}, three even integers are needed", file, axes);
  const int64_t sum = axes[0] + axes[1] + axes[2];
  check(sum == c.head_width, "{}: field axes_dims_rope is {}, which adds up to {}; attention_head_dim {} is needed",
        file, axes, sum, c.head_width);
  const int64_t packed = c.out_channels * c.patch * c.patch;
  check(packed == c.in_channels, "{}: field in_channels is {}, out_channels * patch_size^2 = {} is needed", file,
        c.in_channels, packed);
}

TransformerConfig from_file(const JsonFile& f) {
  if (f.text("_class_name") != kClass) f.refuse("_class_name", kClass);
  for (const char* variant : {"guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"})
    refuse_variant(f, variant);
  refuse_quantization(f);

  TransformerConfig c;
  c.patch = f.integer("patch_size", 1, kMaxPatch);
  c.in_channels = f.integer("in_channels", 1, kMaxChannels * kMaxPatch * kMaxPatch);
  c.out_channels = f.integer("out_channels", 1, kMaxChannels);
  c.layers = f.integer("num_layers", 1, kMaxLayers);
  c.heads = f.integer("num_attention_heads", 1, kMaxHeads);
  c.head_width = f.integer("attention_head_dim", 2, kMaxHeadWidth);
  c.text_width = f.integer("joint_attention_dim", 1, kMaxWidth);
  const auto axes = f.integers("axes_dims_rope", 2, kMaxHeadWidth);
  if (axes.size() != c.rope_axes.size()) f.refuse("axes_dims_rope", "three even integers");
  std::copy(axes.begin(), axes.end(), c.rope_axes.begin());
  check_consistent(c, f.path().string());
  return c;
}

TransformerConfig from_shapes(const Checkpoint& checkpoint) {
  TransformerConfig c;  // patch and RoPE axes stay the published ones
  const int64_t published_head = c.head_width;
  const Shape img_in = telling_shape(checkpoint, "img_in.weight", 2);
  const std::string norm = "transformer_blocks.0.attn.norm_q.weight";
  c.in_channels = img_in[1];
  c.out_channels = divided(checkpoint, "img_in.weight", c.in_channels, c.patch * c.patch);
  c.text_width = telling_shape(checkpoint, "txt_norm.weight", 1)[0];
  c.layers = count_layers(checkpoint, "transformer_blocks.");
  c.head_width = telling_shape(checkpoint, norm, 1)[0];
  c.heads = divided(checkpoint, "img_in.weight", img_in[0], c.head_width);
  check(c.head_width == published_head, "{}: heads are {} wide; a config.json is needed unless they are {}",
        describe(*checkpoint.find(norm), norm), c.head_width, published_head);
  return c;
}

}  // namespace

TransformerConfig read_transformer_config(const Checkpoint& checkpoint, ConfigOrigin& origin) {
  origin = {};
  find_metadata(checkpoint, "qwen_image");  // tells no more than the shapes do
  if (const auto file = find_config(checkpoint)) return from_file(*file);
  const TransformerConfig c = from_shapes(checkpoint);
  origin = inferred_from(checkpoint,
                         fmt::format("{} blocks, {} heads of {}, {} channels, text width {}", c.layers, c.heads,
                                     c.head_width, c.in_channels, c.text_width),
                         fmt::format("patch {} and RoPE axes {}", c.patch, c.rope_axes));
  return c;
}

}  // namespace inkstone
