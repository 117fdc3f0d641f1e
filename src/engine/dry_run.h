// How much memory a job's activations will take, found by running through the model without computing.
#pragma once
#include <limits>
#include <memory>
#include <optional>

#include "engine/job.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"

namespace inkstone {

inline constexpr size_t kUnlimitedPool = std::numeric_limits<size_t>::max() / 8;

/// What a stage's activations take of the device's pool.
struct PoolUse {
  size_t in_use = 0;   ///< at least needed
  size_t held = 0;     ///< with returned buffers that the pool keeps, if its limit is the one given
  bool trims = false;  ///< without that limit the pool would keep more of them
  size_t beside = 0;   ///< what the device needs beside the pool, see Device::step_bytes() and kept_bytes()
  std::vector<const Linear*> layers;  ///< that were used
};

/// A model on a device that counts memory as a real one hands it out, and computes nothing. Binding the weights of
/// transformer and text encoder checks each of their tensors before any work is done; the VAE's are bound already,
/// since that copies them.
class DryRun {
 public:
  struct On {
    const Device& device;      ///< whose memory is counted; it must outlive this
    bool rounds_text = false;  ///< it may round the text encoder's layers
  };

  DryRun(const Model& model, const VaeWeights& vae, const On& on);
  ~DryRun();

  // Each gives nothing if a pool of `limit` bytes is too small, and throws the model's Error with kUnlimitedPool.

  /// While the job's prompts are encoded.
  std::optional<PoolUse> encode(const Job& job, size_t limit) const;
  /// While `pictures` of the job are drawn at a time.
  std::optional<PoolUse> denoise(const Job& job, int64_t pictures, size_t limit) const;
  /// While the job's pictures are decoded, `band_rows` rows of latents at a time (0: all).
  std::optional<PoolUse> decode(const Job& job, int64_t band_rows, size_t limit) const;

  const TextEncoderWeights& text_encoder() const;
  const TransformerWeights& transformer() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace inkstone
