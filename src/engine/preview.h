// Small pictures of latents while they are drawn.
#pragma once
#include "inkstone/inkstone.h"

#include "engine/job.h"
#include "engine/model.h"
#include "model/vae.h"
#include "ops/ops.h"

namespace inkstone {

/// What the decoder gets for a preview of latents (count, z, h, w): of one picture, (1, rows, columns, z).
Shape preview_latents(const Shape& latents);

/// Sends the previews of a request: what the picture would be after a last step without noise left, its latents
/// averaged in squares, so that the decoder has few of them.
class Previews {
 public:
  Previews(Ops& ops, const Model& model, const VaeWeights& vae, const Job& job, const Request& request)
      : ops_(ops), model_(model), vae_(vae), job_(job), request_(request) {}

  /// A batch begins with noise as tokens, its first picture is the job's `first`.
  void begin(int64_t first, const Tensor& tokens);
  /// Its step of this index has led to these.
  void step_done(int64_t step, const Tensor& tokens);

 private:
  bool wants(int64_t step) const;
  /// (pictures, z, h, w)
  Tensor expected(int64_t step, const Tensor& after) const;
  void send(int64_t step, const Tensor& latents) const;

  Ops& ops_;
  const Model& model_;
  const VaeWeights& vae_;
  const Job& job_;
  const Request& request_;
  int64_t first_ = 0;
  Tensor before_;  // tokens ahead of a step that is wanted, on the host
};

}  // namespace inkstone
