#include "model/vae.h"

#include <algorithm>

#include "model/bands.h"

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
  return ops.rms_norm(x, gamma, norm_options(gamma.dim(0), Activation::silu), Ops::Use::operand);
}

/// A 1x1 convolution of pictures (count, h, w, c).
Tensor pointwise(Ops& ops, const Tensor& x, const Linear& layer) {
  const Tensor y = ops.linear(x.reshape({x.shape().rows(), layer.in()}), layer);
  return y.reshape({x.dim(0), x.dim(1), x.dim(2), layer.out()});
}

// Pictures are taken by value, so that a caller who is done with one gives its memory back before the last
// convolution: at full resolution a single tensor of the decoder is 384 bytes a pixel.

/// A residual block that is given a picture band by band.
class ResidualBlock {
 public:
  explicit ResidualBlock(const VaeResidualBlock& weights) : w_(weights) {}

  Band run(Ops& ops, Band x) {
    Band y = conv_1_.run(ops, w_.conv_1, by_row(x, [&](const Tensor& t) { return norm_silu(ops, t, w_.norm_1); }));
    if (w_.shortcut) x = by_row(std::move(x), [&](const Tensor& t) { return pointwise(ops, t, *w_.shortcut); });
    skipped_ = joined(ops, std::move(skipped_), std::move(x));
    y = conv_2_.run(ops, w_.conv_2, std::move(y), skipped_);
    skipped_ = copy_of(ops, skipped_.cut(conv_2_.next_row(), skipped_.end()));
    return y;
  }

 private:
  const VaeResidualBlock& w_;
  BandedConv conv_1_, conv_2_;
  Band skipped_;  // what the second convolution has yet to add
};

Tensor residual_block(Ops& ops, const VaeResidualBlock& w, Tensor x) {
  return ResidualBlock(w).run(ops, whole(std::move(x))).rows;
}

// Three layers that write what attention reads: one layer for all would need its result and the parts of it at once,
// and these are the largest tensors at the resolution of the latents.
Qkv qkv_of(Ops& ops, const VaeAttention& w, const Tensor& rows, const Sequences& pictures) {
  const int64_t channels = rows.dim(1);
  const Tensor normed = ops.rms_norm(rows, w.norm, norm_options(channels, Activation::none), Ops::Use::operand);
  const auto part = [&](const Linear& layer) {
    return ops.linear(normed, layer, {}, Ops::Use::operand).reshape({rows.dim(0), 1, channels});
  };
  return {.q = part(w.q), .k = part(w.k), .v = part(w.v), .sequences = {{pictures}}};
}

Tensor attention_block(Ops& ops, const VaeAttention& w, const Tensor& x) {
  const Sequences pictures = Sequences::equal(x.dim(0), x.dim(1) * x.dim(2));
  const Tensor rows = x.reshape({pictures.rows(), x.dim(3)});
  const Tensor attended = ops.attention(qkv_of(ops, w, rows, pictures)).front();
  return ops.linear(attended, w.out, {.residual = rows}).reshape(x.shape());
}

Tensor middle(Ops& ops, const VaeMiddle& w, Tensor x) {
  x = residual_block(ops, w.before, std::move(x));
  x = attention_block(ops, w.attention, x);
  return residual_block(ops, w.after, std::move(x));
}

/// The blocks and convolutions between stages, which see at most some rows around each.
class Stages {
 public:
  explicit Stages(const std::vector<VaeStage>& stages) {
    for (const VaeStage& stage : stages) stages_.emplace_back(stage);
  }

  Band run(Ops& ops, Band x) {
    for (OneStage& stage : stages_) x = stage.run(ops, std::move(x));
    return x;
  }

 private:
  struct OneStage {
    explicit OneStage(const VaeStage& weights) : resample_weights(weights.resample) {
      for (const VaeResidualBlock& block : weights.blocks) blocks.emplace_back(block);
    }

    Band run(Ops& ops, Band x) {
      for (ResidualBlock& block : blocks) x = block.run(ops, std::move(x));
      return resample_weights ? resample.run(ops, *resample_weights, std::move(x)) : x;
    }

    std::vector<ResidualBlock> blocks;
    const std::optional<Conv2d>& resample_weights;
    BandedConv resample;
  };

  std::vector<OneStage> stages_;
};

/// What follows the decoder's middle.
class DecoderTail {
 public:
  DecoderTail(Ops& ops, const VaeDecoderWeights& weights) : ops_(ops), w_(weights), stages_(weights.stages) {}

  Band run(Band x) {
    x = stages_.run(ops_, std::move(x));
    x = by_row(std::move(x), [&](const Tensor& t) { return norm_silu(ops_, t, w_.norm_out); });
    return conv_out_.run(ops_, w_.conv_out, std::move(x));
  }

 private:
  Ops& ops_;
  const VaeDecoderWeights& w_;
  Stages stages_;
  BandedConv conv_out_;
};

/// What comes before the encoder's middle.
class EncoderHead {
 public:
  EncoderHead(Ops& ops, const VaeEncoderWeights& weights) : ops_(ops), w_(weights), stages_(weights.stages) {}

  Band run(Band x) { return stages_.run(ops_, conv_in_.run(ops_, w_.conv_in, std::move(x))); }

 private:
  Ops& ops_;
  const VaeEncoderWeights& w_;
  BandedConv conv_in_;
  Stages stages_;
};

/// How many rows of latents the decoder's layers have seen that are not yet in the picture: a convolution waits for the
/// row below.
int64_t rows_held_back(const VaeDecoderWeights& w) {
  int64_t held = 0, scale = 1;
  for (const VaeStage& stage : w.stages) {
    held += 2 * static_cast<int64_t>(stage.blocks.size());
    if (!stage.resample) continue;
    scale *= stage.resample->upsampling;
    held = held * stage.resample->upsampling + 1;
  }
  return (held + 1 + scale - 1) / scale;
}

/// Bands in which layers that hold back so many rows give about `rows` each: the first is larger, the last smaller, of
/// one row at least. So the last, which all that was held back comes with, takes no more memory than the others.
struct BandEnds {
  BandEnds(int64_t height_, int64_t rows_, int64_t held_)
      : height(height_), rows(rows_), held(held_), count((height_ + rows_ - 1) / rows_) {}

  /// Where band `i` ends.
  int64_t operator[](int64_t i) const { return std::min((i + 1) * rows + held, height - (count - 1 - i)); }

  int64_t height, rows, held, count;
};

/// The result for pictures that `layers()`, fresh for each picture, are given in bands of `rows`; 0: as a whole.
Tensor in_bands(Ops& ops, Tensor pictures, int64_t rows, int64_t held_back, const auto& layers) {
  const int64_t count = pictures.dim(0), height = pictures.dim(1);
  if (rows == 0 || rows >= height) return layers().run(whole(std::move(pictures))).rows;
  const BandEnds ends(height, rows, held_back);
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < count; ++i) {
    auto chain = layers();
    const Band picture = whole(pictures.rows(i, i + 1));
    for (int64_t band = 0, row = 0; band < ends.count; row = ends[band++]) {
      const Tensor part = chain.run(picture.cut(row, ends[band])).rows;
      if (part) parts.push_back(part.reshape({part.dim(1), part.dim(2), part.dim(3)}));
    }
  }
  pictures = Tensor();
  const Tensor all = ops.concat_rows(parts);
  return all.reshape({count, all.dim(0) / count, all.dim(1), all.dim(2)});
}

VaeResidualBlock load_residual_block(WeightLoader& load, const std::string& name, int64_t in, int64_t out) {
  VaeResidualBlock w = {
      .norm_1 = load.vector(name + ".norm1.gamma", in),
      .conv_1 = load.tolerant(load.conv2d(name + ".conv1", out, in)),
      .conv_2 = load.tolerant(load.conv2d(name + ".conv2", out, out)),
  };
  w.conv_1.norm = load.vector(name + ".norm2.gamma", out);
  w.conv_1.norm_options = norm_options(out, Activation::silu);
  if (in != out) w.shortcut = load.linear(name + ".conv_shortcut", out, in);
  return w;
}

/// The layer that makes features [begin, end) of `layer` only.
Linear features(const Linear& layer, int64_t begin, int64_t end) {
  const auto rows = [=](const Tensor& t) { return t ? t.rows(begin, end) : t; };
  Slab slab = layer.slabs.front();
  slab.weight.out = end - begin;
  for (Tensor* part : {&slab.weight.data, &slab.weight.scales, &slab.weight.offsets, &slab.bias}) *part = rows(*part);
  return {.slabs = {slab}};
}

VaeAttention load_attention(WeightLoader& load, const std::string& name, int64_t c) {
  VaeAttention w = {.norm = load.vector(name + ".norm.gamma", c)};
  const Linear qkv = load.linear(name + ".to_qkv", 3 * c, c);
  w.q = features(qkv, 0, c);
  w.k = features(qkv, c, 2 * c);
  w.v = features(qkv, 2 * c, 3 * c);
  w.out = load.linear(name + ".proj", c, c);
  return w;
}

VaeMiddle load_middle(WeightLoader& load, const std::string& name, int64_t c) {
  return {
      .before = load_residual_block(load, name + ".resnets.0", c, c),
      .attention = load_attention(load, name + ".attentions.0", c),
      .after = load_residual_block(load, name + ".resnets.1", c, c),
  };
}

/// The convolution between two stages, `in` channels to `out`.
Conv2d load_resample(WeightLoader& load, const std::string& name, int64_t in, int64_t out) {
  load.ignore_layer(name + ".time_conv");
  return load.tolerant(load.conv2d(name + ".resample.1", out, in));
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

VaeEncoderWeights load_encoder(const VaeConfig& c, WeightLoader& load) {
  const int64_t last = c.base * c.multipliers.back();
  const int64_t moments = 2 * c.latent_channels;  // mean and logarithm of the variance
  VaeEncoderWeights w = {
      .conv_in = load.conv2d("encoder.conv_in", c.base, c.image_channels),
      .middle = load_middle(load, "encoder.mid_block", last),
      .norm_out = load.vector("encoder.norm_out.gamma", last),
      .conv_out = load.conv2d("encoder.conv_out", moments, last),
      .quant_mean = features(load.linear("quant_conv", moments, moments), 0, c.latent_channels),
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

Tensor decode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& latents, int64_t band_rows) {
  const VaeDecoderWeights& w = weights.decoder;
  Tensor x = pointwise(ops, denormalise(ops, config, latents), w.post_quant);
  x = middle(ops, w.middle, ops.conv2d(x, w.conv_in));
  return in_bands(ops, std::move(x), band_rows, rows_held_back(w), [&] { return DecoderTail(ops, w); });
}

Tensor encode(Ops& ops, const VaeConfig& config, const VaeWeights& weights, const Tensor& pixels, int64_t band_rows) {
  const VaeEncoderWeights& w = weights.encoder;
  // The encoder's largest layers come first, before anything is held back.
  Tensor x = in_bands(ops, pixels, band_rows * config.scale(), 0, [&] { return EncoderHead(ops, w); });
  x = norm_silu(ops, middle(ops, w.middle, std::move(x)), w.norm_out);
  return normalise(ops, config, pointwise(ops, ops.conv2d(x, w.conv_out), w.quant_mean));
}

}  // namespace inkstone
