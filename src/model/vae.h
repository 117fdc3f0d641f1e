// The causal VAE of Qwen-Image for single pictures (AutoencoderKLQwenImage of diffusers).
//
// Details that have caused bugs elsewhere:
// * One frame meets only the last temporal slice of a causal kernel, and no time_conv at all.
// * The norm divides by the length of a pixel's channel vector: no mean is subtracted, and eps bounds the length.
// * Up-sampling halves the channels. Down-sampling pads below and to the right only.
// * A decoder stage has one residual block more than the configuration says.
// * The encoder's stages lie in one flat list, the decoder's are nested.
#pragma once
#include <optional>
#include <vector>

#include "io/weight_loader.h"
#include "model/config.h"
#include "ops/ops.h"

namespace inkstone {

struct VaeResidualBlock {
  Tensor norm_1;                   // (in)
  Conv2d conv_1;                   // in -> out, with the norm behind it
  Conv2d conv_2;                   // out -> out
  std::optional<Linear> shortcut;  // in -> out; absent where they are equal
};

/// Attention among the pixels of a picture: one head as wide as the picture has channels.
struct VaeAttention {
  Tensor norm;     // (c)
  Linear q, k, v;  // c -> c; files hold them as one
  Linear out;      // c -> c
};

struct VaeMiddle {
  VaeResidualBlock before;
  VaeAttention attention;
  VaeResidualBlock after;
};

/// Blocks of one resolution, and the convolution to the next; absent in the last stage.
struct VaeStage {
  std::vector<VaeResidualBlock> blocks;
  std::optional<Conv2d> resample;
};

struct VaeDecoderWeights {
  Linear post_quant;  // z -> z
  Conv2d conv_in;     // z -> c
  VaeMiddle middle;
  std::vector<VaeStage> stages;
  Tensor norm_out;  // (base)
  Conv2d conv_out;  // base -> image channels
};

struct VaeEncoderWeights {
  Conv2d conv_in;  // image channels -> base
  std::vector<VaeStage> stages;
  VaeMiddle middle;
  Tensor norm_out;    // (c)
  Conv2d conv_out;    // c -> 2z
  Linear quant_mean;  // 2z -> z: the half of quant_conv that makes the mean
};

struct VaeWeights {
  VaeDecoderWeights decoder;
  VaeEncoderWeights encoder;
};

/// Binds decoder and encoder; time_conv layers are known and not needed.
VaeWeights load_vae(const VaeConfig& config, WeightLoader& loader);

// Decoder and encoder are local but for the middle, at the resolution of the latents. So both can run in bands of rows,
// `band_rows` of latents at a time (0: the whole picture), with the same result: what a picture's size costs is then
// its middle alone, 12 KiB a latent at the published width.

/// Latents as the sampler leaves them (count, h, w, z) to pixels (count, H, W, image channels), nominally in [-1, 1]
/// but not clamped. H = h * config.scale().
Tensor decode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& latents,
              int64_t band_rows = 0);

/// Pixels in [-1, 1] (count, H, W, image channels) to the posterior's mean, normalised as the sampler wants it (count,
/// h, w, z). H and W are multiples of config.scale().
Tensor encode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& pixels,
              int64_t band_rows = 0);

}  // namespace inkstone
