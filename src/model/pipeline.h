// From prompt embeddings and noise to latents and pixels (QwenImagePipeline of diffusers).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/ops.h"

namespace inkstone {

/// Pictures of one size that are drawn together.
struct Batch {
  Grid grid;
  std::vector<Tensor> prompts;    ///< embeddings (rows, text_width) for each picture
  std::vector<Tensor> negatives;  ///< the same for the unconditional branch; empty: no guidance, one pass a step

  int64_t pictures() const { return static_cast<int64_t>(prompts.size()); }
};

/// Walks latents down a schedule by Euler steps, guided by true CFG. What depends on the schedule alone is made once.
class Sampler {
 public:
  /// `sigmas`: as make_schedule gives them, the final 0 included. `scale` of the guidance is used by batches with
  /// negatives.
  Sampler(Ops& ops, const Transformer& transformer, std::span<const float> sigmas, double scale);

  /// Is called after each step with its index and the latents as tokens.
  using StepDone = std::function<void(int64_t step, const Tensor& tokens)>;

  /// Latents at the end of the schedule as tokens (pictures * grid, features), from noise as such tokens.
  Tensor run(const Batch& batch, Tensor tokens, const StepDone& step_done) const;

 private:
  int64_t steps() const { return differences_.dim(0); }

  Ops& ops_;
  const Transformer& transformer_;
  ModulationTables tables_;
  Tensor differences_;  // (steps): sigma[i + 1] - sigma[i]
  Tensor scale_;        // (1)
};

/// A VAE, and how many rows of latents it decodes at a time (0: all).
struct Decoder {
  const VaeConfig& config;
  const VaeWeights& weights;
  int64_t band_rows = 0;
};

/// 8-bit pixels (count, H, W, image channels) of latents that are tokens (count * h/p * w/p, features); `latents` is
/// their shape (count, z, h, w).
Tensor decode_tokens(Ops& ops, const Decoder& vae, const Tensor& tokens, const Shape& latents, int64_t patch);

}  // namespace inkstone
