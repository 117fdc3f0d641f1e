// vae/config.json (AutoencoderKLQwenImage of diffusers).
#include "model/config_file.h"

namespace inkstone {
namespace {

constexpr const char* kClass = "AutoencoderKLQwenImage";
constexpr int64_t kMaxChannels = 4096;
constexpr int64_t kMaxMultiplier = 64;
constexpr size_t kMaxStages = 8;
constexpr int64_t kMaxResBlocks = 64;

VaeConfig published() {
  VaeConfig c;
  c.latents_mean = {-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,  -0.1517, 1.5508,
                    0.4134,  -0.0715, 0.5517,  -0.3632, -0.1922, -0.9497, 0.2503,  -0.2921};
  c.latents_std = {2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                   3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};
  return c;
}

void check_stages(const VaeConfig& c, const JsonFile& f) {
  if (c.multipliers.empty() || c.multipliers.size() > kMaxStages)
    f.refuse("dim_mult", fmt::format("an array of 1 to {} integers", kMaxStages));
  if (c.temporal_downsample.size() + 1 != c.multipliers.size())
    f.refuse("temperal_downsample",
             fmt::format("an array of {} booleans, one fewer than dim_mult has entries", c.multipliers.size() - 1));
  // Each up-sampling halves the channels of the stage below.
  for (size_t i = 1; i < c.multipliers.size(); ++i)
    if (c.base * c.multipliers[i] % 2 != 0) f.refuse("base_dim", "an even number of channels in every stage");
}

void check_latents(const VaeConfig& c, const JsonFile& f) {
  const auto channels = static_cast<size_t>(c.latent_channels);
  const std::string wanted = fmt::format("an array of z_dim = {} numbers", channels);
  if (c.latents_mean.size() != channels) f.refuse("latents_mean", wanted);
  if (c.latents_std.size() != channels) f.refuse("latents_std", wanted);
  if (std::any_of(c.latents_std.begin(), c.latents_std.end(), [](double std) { return std <= 0; }))
    f.refuse("latents_std", "an array of positive numbers");
}

VaeConfig from_file(const JsonFile& f) {
  if (f.text("_class_name") != kClass) f.refuse("_class_name", kClass);
  if (f.has("attn_scales") && !f.numbers("attn_scales").empty())
    f.refuse("attn_scales", "[] (this program does not run that variant)");
  refuse_quantization(f);

  VaeConfig c;
  // Four channels, colour and opacity, are those of the model Qwen-Image-Layered.
  if (f.integer_or("input_channels", c.image_channels, 1, kMaxChannels) != c.image_channels)
    f.refuse("input_channels", "3 (RGB)");
  c.base = f.integer("base_dim", 1, kMaxChannels);
  c.latent_channels = f.integer("z_dim", 1, kMaxChannels);
  c.res_blocks = f.integer("num_res_blocks", 1, kMaxResBlocks);
  c.multipliers = f.integers("dim_mult", 1, kMaxMultiplier);
  c.temporal_downsample = f.booleans("temperal_downsample");  // diffusers' spelling
  c.latents_mean = f.numbers("latents_mean");
  c.latents_std = f.numbers("latents_std");
  check_stages(c, f);
  check_latents(c, f);
  return c;
}

/// Throws Error unless stages and residual blocks are the published ones: a config.json could say more than shapes do.
void check_published_stages(const Checkpoint& checkpoint, const VaeConfig& c) {
  const std::string stages = "decoder.up_blocks.";
  const auto check_count = [&](const std::string& prefix, int64_t published) {
    const int64_t found = count_layers(checkpoint, prefix);
    check(found == published, "{}: has {} of {}*; a config.json is needed unless there are {}",
          checkpoint.path.string(), found, prefix, published);
  };
  const auto check_width = [&](const std::string& tensor, int64_t published) {
    const int64_t found = telling_shape(checkpoint, tensor, 5)[0];
    check(found == published, "{}: makes {} channels; with {} at the end a config.json is needed unless they are {}",
          describe(*checkpoint.find(tensor), tensor), found, c.base * c.multipliers.front(), published);
  };
  check_count(stages, static_cast<int64_t>(c.multipliers.size()));
  check_width("decoder.conv_in.weight", c.base * c.multipliers.back());
  for (size_t i = 0; i < c.multipliers.size(); ++i) {
    const std::string blocks = fmt::format("{}{}.resnets.", stages, i);
    check_count(blocks, c.res_blocks + 1);
    check_width(blocks + "0.conv1.weight", c.base * c.multipliers[c.multipliers.size() - 1 - i]);
  }
}

VaeConfig from_shapes(const Checkpoint& checkpoint) {
  const std::string last = "decoder.conv_out.weight";
  const std::string first = "decoder.conv_in.weight";
  VaeConfig c = published();
  const Shape conv_out = telling_shape(checkpoint, last, 5);
  const int64_t latent_channels = telling_shape(checkpoint, first, 5)[1];
  check(conv_out[0] == c.image_channels, "{}: makes {} channels, {} (RGB) are needed",
        describe(*checkpoint.find(last), last), conv_out[0], c.image_channels);
  check(latent_channels == c.latent_channels, "{}: takes {} channels; a config.json is needed unless they are {}",
        describe(*checkpoint.find(first), first), latent_channels, c.latent_channels);
  c.base = divided(checkpoint, last, conv_out[1], c.multipliers.front());
  check_published_stages(checkpoint, c);
  return c;
}

}  // namespace

VaeConfig read_vae_config(const Checkpoint& checkpoint, ConfigOrigin& origin) {
  origin = {};
  if (const auto file = find_config(checkpoint)) return from_file(*file);
  const VaeConfig c = from_shapes(checkpoint);
  origin =
      inferred_from(checkpoint, fmt::format("{} base channels, {} latent channels", c.base, c.latent_channels),
                    fmt::format("channel multipliers {}, {} residual blocks, mean and standard deviation of latents",
                                c.multipliers, c.res_blocks));
  return c;
}

}  // namespace inkstone
