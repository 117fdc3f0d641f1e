// How much memory a job's activations will take, found by running through the model without computing.
#pragma once
#include <memory>

#include "engine/job.h"
#include "model/vae.h"

namespace inkstone {

/// A model on a device that counts memory and computes nothing. Binding the weights of transformer and text encoder
/// checks each of their tensors before any work is done; the VAE's are bound already, since that copies them.
class DryRun {
 public:
  DryRun(const Model& model, const VaeWeights& vae);
  ~DryRun();

  /// Peak bytes of activations while a prompt of so many tokens, template included, is encoded.
  size_t encode(int64_t tokens);
  /// While `pictures` of the job are drawn in one batch.
  size_t denoise(const Job& job, int64_t pictures);
  /// While one picture of the job is decoded, `band_rows` rows of latents at a time (0: all).
  size_t decode(const Job& job, int64_t band_rows);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace inkstone
