#include "model/vae.h"

namespace inkstone {
namespace {

// The reference computes x / max(||x||, kLeastLength) * sqrt(c) * gamma, and rms_norm x / sqrt(||x||² / c + eps) *
// gamma. With eps = kLeastLength² / c both agree to f32 rounding unless ||x|| is within four decades of kLeastLength.
constexpr double kLeastLength = 1e-12;

NormOptions norm_options(int64_t channels, Activation activation) {
  return {.eps = static_cast<float>(kLeastLength * kLeastLength / static_cast<double>(channels)),
          .activation = activation};
}

Tensor norm_silu(Ops& ops, const Tensor& x, const Tensor& gamma) {
  return ops.rms_norm(x, gamma, norm_options(gamma.dim(0), Activation::silu));
}

/// A 1x1 convolution of pictures (count, h, w, c).
Tensor pointwise(Ops& ops, const Tensor& x, const Linear& layer) {
  const Tensor y = ops.linear(x.reshape({x.shape().rows(), layer.in()}), layer);
  return y.reshape({x.dim(0), x.dim(1), x.dim(2), layer.out()});
}

// Pictures are taken by value, so that a caller who is done with one gives its memory back before the last
// convolution: at full resolution a single tensor of the decoder is 384 bytes a pixel.

Tensor residual_block(Ops& ops, const VaeResidualBlock& w, Tensor x) {
  Tensor y = ops.conv2d(norm_silu(ops, x, w.norm_1), w.conv_1);
  y = norm_silu(ops, y, w.norm_2);
  if (w.shortcut) x = pointwise(ops, x, *w.shortcut);
  return ops.conv2d(y, w.conv_2, x);
}

Tensor attention_block(Ops& ops, const VaeAttention& w, const Tensor& x) {
  const int64_t channels = x.dim(3);
  const Sequences pictures = Sequences::equal(x.dim(0), x.dim(1) * x.dim(2));
  const Tensor rows = x.reshape({pictures.rows(), channels});
  const Tensor normed = ops.rms_norm(rows, w.norm, norm_options(channels, Activation::none));
  const Qkv qkv = ops.join_qkv({{.qkv = ops.linear(normed, w.qkv), .sequences = &pictures}},
                               {.heads = 1, .kv_heads = 1, .width = channels});
  return ops.linear(ops.attention(qkv).front(), w.out, {.residual = rows}).reshape(x.shape());
}

Tensor middle(Ops& ops, const VaeMiddle& w, Tensor x) {
  x = residual_block(ops, w.before, std::move(x));
  x = attention_block(ops, w.attention, x);
  return residual_block(ops, w.after, std::move(x));
}

Tensor stage(Ops& ops, const VaeStage& w, Tensor x) {
  for (const VaeResidualBlock& block : w.blocks) x = residual_block(ops, block, std::move(x));
  return w.resample ? ops.conv2d(x, *w.resample) : x;
}

VaeResidualBlock load_residual_block(WeightLoader& load, const std::string& name, int64_t in, int64_t out) {
  VaeResidualBlock w = {
      .norm_1 = load.vector(name + ".norm1.gamma", in),
      .conv_1 = load.conv2d(name + ".conv1", out, in),
      .norm_2 = load.vector(name + ".norm2.gamma", out),
      .conv_2 = load.conv2d(name + ".conv2", out, out),
  };
  if (in != out) w.shortcut = load.linear(name + ".conv_shortcut", out, in);
  return w;
}

VaeMiddle load_middle(WeightLoader& load, const std::string& name, int64_t c) {
  const std::string attention = name + ".attentions.0.";
  return {
      .before = load_residual_block(load, name + ".resnets.0", c, c),
      .attention = {.norm = load.vector(attention + "norm.gamma", c),
                    .qkv = load.linear(attention + "to_qkv", 3 * c, c),
                    .out = load.linear(attention + "proj", c, c)},
      .after = load_residual_block(load, name + ".resnets.1", c, c),
  };
}

/// The convolution between two stages, `in` channels to `out`.
Conv2d load_resample(WeightLoader& load, const std::string& name, int64_t in, int64_t out) {
  load.ignore(name + ".time_conv.");
  return load.conv2d(name + ".resample.1", out, in);
}

VaeDecoderWeights load_decoder(const VaeConfig& c, WeightLoader& load) {
  const std::vector<int64_t> multipliers(c.multipliers.rbegin(), c.multipliers.rend());
  int64_t width = c.base * multipliers.front();
  VaeDecoderWeights w = {
      .post_quant = load.linear("post_quant_conv", c.latent_channels, c.latent_channels),
      .conv_in = load.conv2d("decoder.conv_in", width, c.latent_channels),
      .middle = load_middle(load, "decoder.mid_block", width),
      .norm_out = load.vector("decoder.norm_out.gamma", c.base * multipliers.back()),
      .conv_out = load.conv2d("decoder.conv_out", c.image_channels, c.base * multipliers.back()),
  };
  for (size_t i = 0; i < multipliers.size(); ++i) {
    const std::string name = fmt::format("decoder.up_blocks.{}", i);
    const int64_t out = c.base * multipliers[i];
    VaeStage& to = w.stages.emplace_back();
    for (int64_t r = 0; r <= c.res_blocks; ++r) {
      to.blocks.push_back(load_residual_block(load, fmt::format("{}.resnets.{}", name, r), width, out));
      width = out;
    }
    if (i + 1 == multipliers.size()) break;
    width = out / 2;
    to.resample = load_resample(load, name + ".upsamplers.0", out, width);
    to.resample->upsampling = 2;
  }
  return w;
}

/// The layer that makes the first `n` features of `layer` only.
Linear first_features(const Linear& layer, int64_t n) {
  const auto rows = [n](const Tensor& t) { return t ? t.rows(0, n) : t; };
  Slab slab = layer.slabs.front();
  slab.weight.out = n;
  for (Tensor* part : {&slab.weight.data, &slab.weight.scales, &slab.weight.offsets, &slab.bias}) *part = rows(*part);
  return {.slabs = {slab}};
}

VaeEncoderWeights load_encoder(const VaeConfig& c, WeightLoader& load) {
  const int64_t last = c.base * c.multipliers.back();
  const int64_t moments = 2 * c.latent_channels;  // mean and logarithm of the variance
  VaeEncoderWeights w = {
      .conv_in = load.conv2d("encoder.conv_in", c.base, c.image_channels),
      .middle = load_middle(load, "encoder.mid_block", last),
      .norm_out = load.vector("encoder.norm_out.gamma", last),
      .conv_out = load.conv2d("encoder.conv_out", moments, last),
      .quant_mean = first_features(load.linear("quant_conv", moments, moments), c.latent_channels),
  };
  int64_t width = c.base;
  int64_t index = 0;
  const auto next_name = [&index] { return fmt::format("encoder.down_blocks.{}", index++); };
  for (size_t i = 0; i < c.multipliers.size(); ++i) {
    const int64_t out = c.base * c.multipliers[i];
    VaeStage& to = w.stages.emplace_back();
    for (int64_t r = 0; r < c.res_blocks; ++r) {
      to.blocks.push_back(load_residual_block(load, next_name(), width, out));
      width = out;
    }
    if (i + 1 == c.multipliers.size()) break;
    to.resample = load_resample(load, next_name(), out, out);
    to.resample->padding = Padding::after;
    to.resample->stride = 2;
  }
  return w;
}

/// A vector over the latent channels made from each one's published mean and standard deviation.
Tensor channel_vector(Ops& ops, const VaeConfig& c, double (*value)(double mean, double std)) {
  std::vector<float> values;
  for (size_t i = 0; i < c.latents_mean.size(); ++i)
    values.push_back(static_cast<float>(value(c.latents_mean[i], c.latents_std[i])));
  return ops.upload(host_tensor(values));
}

Tensor denormalise(Ops& ops, const VaeConfig& c, const Tensor& latents) {
  return ops.scale_shift(latents, channel_vector(ops, c, [](double, double std) { return std; }),
                         channel_vector(ops, c, [](double mean, double) { return mean; }));
}

Tensor normalise(Ops& ops, const VaeConfig& c, const Tensor& latents) {
  return ops.scale_shift(latents, channel_vector(ops, c, [](double, double std) { return 1 / std; }),
                         channel_vector(ops, c, [](double mean, double std) { return -mean / std; }));
}

}  // namespace

VaeWeights load_vae(const VaeConfig& config, WeightLoader& loader) {
  VaeWeights w = {.decoder = load_decoder(config, loader), .encoder = load_encoder(config, loader)};
  loader.finish();
  return w;
}

Tensor decode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& latents) {
  const VaeDecoderWeights& w = weights.decoder;
  Tensor x = pointwise(ops, denormalise(ops, config, latents), w.post_quant);
  x = middle(ops, w.middle, ops.conv2d(x, w.conv_in));
  for (const VaeStage& s : w.stages) x = stage(ops, s, std::move(x));
  x = norm_silu(ops, x, w.norm_out);
  return ops.conv2d(x, w.conv_out);
}

Tensor encode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& pixels) {
  const VaeEncoderWeights& w = weights.encoder;
  Tensor x = ops.conv2d(pixels, w.conv_in);
  for (const VaeStage& s : w.stages) x = stage(ops, s, std::move(x));
  x = norm_silu(ops, middle(ops, w.middle, std::move(x)), w.norm_out);
  return normalise(ops, config, pointwise(ops, ops.conv2d(x, w.conv_out), w.quant_mean));
}

}  // namespace inkstone
