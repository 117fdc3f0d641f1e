// What the config.json of each component says, and what its weights' shapes tell where there is none.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace inkstone {

/// transformer/config.json (QwenImageTransformer2DModel).
struct TransformerConfig {
  int64_t patch = 2;
  int64_t in_channels = 64;   ///< features of a packed latent token: latent channels * patch²
  int64_t out_channels = 16;  ///< latent channels
  int64_t layers = 60;
  int64_t heads = 24;
  int64_t head_width = 128;
  int64_t text_width = 3584;                        ///< joint_attention_dim
  std::array<int64_t, 3> rope_axes = {16, 56, 56};  ///< frame, height, width

  int64_t width() const { return heads * head_width; }
};

/// text_encoder/config.json (Qwen2_5_VLForConditionalGeneration, language part).
struct TextEncoderConfig {
  int64_t width = 3584;
  int64_t intermediate = 18944;
  int64_t layers = 28;
  int64_t heads = 28;
  int64_t kv_heads = 4;
  int64_t head_width = 128;
  int64_t vocabulary = 152064;
  float norm_eps = 1e-6f;
  double rope_theta = 1e6;
};

/// vae/config.json (AutoencoderKLQwenImage).
struct VaeConfig {
  int64_t base = 96;
  int64_t latent_channels = 16;
  int64_t image_channels = 3;
  std::vector<int64_t> multipliers = {1, 2, 4, 4};
  int64_t res_blocks = 2;
  std::vector<bool> temporal_downsample = {false, true, true};
  std::vector<double> latents_mean;  ///< (latent_channels)
  std::vector<double> latents_std;

  /// Pixels per latent in each direction: 2 to the number of down-samplings.
  int64_t scale() const { return int64_t{1} << temporal_downsample.size(); }
};

/// Where a configuration's values came from.
struct ConfigOrigin {
  bool inferred = false;  ///< no config.json: shapes and published values
  std::string note;       ///< one line for the user when inferred
};

/// Each reads `folder/config.json` of the checkpoint (beside the weights), or infers from shapes, taking the rest from
/// Qwen-Image-2512's published values. Errors name file, field, value and what would be right; unknown architectures
/// and variants that this program does not run (guidance_embeds, zero_cond_t, use_additional_t_cond, use_layer3d_rope,
/// attn_scales, sliding windows, another hidden_act) are errors.
TransformerConfig read_transformer_config(const Checkpoint& checkpoint, ConfigOrigin& origin);
TextEncoderConfig read_text_encoder_config(const Checkpoint& checkpoint, ConfigOrigin& origin);
VaeConfig read_vae_config(const Checkpoint& checkpoint, ConfigOrigin& origin);

/// inkstone.json of a model folder: what to do when the user does not say.
struct ModelDefaults {
  int64_t steps = 50;
  int64_t width = 1328;
  int64_t height = 1328;
  double cfg = 4.0;
};
inline constexpr const char* kDefaultsFile = "inkstone.json";
ModelDefaults read_model_defaults(const std::filesystem::path& model_folder);

}  // namespace inkstone
