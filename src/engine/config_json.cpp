#include "engine/config_json.h"

namespace inkstone {

using nlohmann::ordered_json;

ordered_json config_json(const TransformerConfig& c) {
  return {{"_class_name", "QwenImageTransformer2DModel"},
          {"patch_size", c.patch},
          {"in_channels", c.in_channels},
          {"out_channels", c.out_channels},
          {"num_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"attention_head_dim", c.head_width},
          {"joint_attention_dim", c.text_width},
          {"axes_dims_rope", c.rope_axes}};
}

ordered_json config_json(const TextEncoderConfig& c) {
  return {{"architectures", {"Qwen2_5_VLForConditionalGeneration"}},
          {"model_type", "qwen2_5_vl"},
          {"hidden_size", c.width},
          {"intermediate_size", c.intermediate},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"num_key_value_heads", c.kv_heads},
          {"vocab_size", c.vocabulary},
          {"rms_norm_eps", c.norm_eps},
          {"rope_theta", c.rope_theta}};
}

ordered_json config_json(const VaeConfig& c) {
  return {{"_class_name", "AutoencoderKLQwenImage"},
          {"base_dim", c.base},
          {"z_dim", c.latent_channels},
          {"dim_mult", c.multipliers},
          {"num_res_blocks", c.res_blocks},
          {"temperal_downsample", c.temporal_downsample},
          {"latents_mean", c.latents_mean},
          {"latents_std", c.latents_std}};
}

}  // namespace inkstone
