#include "model/pipeline.h"

#include "ops/repeated.h"

namespace inkstone {
namespace {

Tensor upload_values(Ops& ops, const std::vector<float>& values) { return ops.upload(host_tensor(values)); }

/// The sequences of a batch: all prompts, then all negatives.
Conditioning condition_batch(Ops& ops, const Transformer& transformer, const Batch& batch) {
  std::vector<Tensor> texts = batch.prompts;
  texts.insert(texts.end(), batch.negatives.begin(), batch.negatives.end());
  std::vector<int64_t> lengths;
  for (const Tensor& text : texts) lengths.push_back(text.dim(0));
  return transformer.condition(ops, ops.concat_rows(texts), Sequences(lengths), batch.grid);
}

}  // namespace

Sampler::Sampler(Ops& ops, const Transformer& transformer, std::span<const float> sigmas, double scale)
    : ops_(ops), transformer_(transformer) {
  const std::vector<float> times(sigmas.begin(), sigmas.end() - 1);
  std::vector<float> differences;
  for (size_t i = 0; i < times.size(); ++i) differences.push_back(sigmas[i + 1] - sigmas[i]);
  tables_ = transformer.modulate(ops, upload_values(ops, times));
  differences_ = upload_values(ops, differences);
  scale_ = upload_values(ops, {static_cast<float>(scale)});
}

Tensor Sampler::run(const Batch& batch, Tensor tokens, const StepDone& step_done) const {
  const Conditioning condition = condition_batch(ops_, transformer_, batch);
  const int64_t drawn = batch.pictures() * batch.grid.tokens();
  const bool guided = !batch.negatives.empty();
  const RecordedWork velocity_at = [&](std::span<const Tensor> in) {
    const Tensor& at = in[0];
    const Tensor x = guided ? ops_.concat_rows({at, at}) : at;  // both branches see the same latents
    return transformer_.forward(ops_, x, condition, tables_, {.block = in[1], .head = in[2]});
  };
  Repeated velocity_of(ops_, velocity_at, transformer_.stays_in_place() ? steps() : 1);
  for (int64_t step = 0; step < steps(); ++step) {
    const StepRows rows = Transformer::rows_of_step(ops_, step, condition.txt_rows.count());
    const Tensor velocity = velocity_of({tokens, rows.block, rows.head}), by = differences_.rows(step, step + 1);
    if (guided) {
      tokens = ops_.guided_step(tokens, {velocity.rows(0, drawn), velocity.rows(drawn, 2 * drawn), scale_}, by);
    } else {
      tokens = ops_.add_scaled(tokens, velocity, by);
    }
    step_done(step, tokens);
  }
  return tokens;
}

Tensor decode_tokens(Ops& ops, const Decoder& vae, const Tensor& tokens, const Shape& latents, int64_t patch) {
  const Tensor pictures = ops.unpatchify(tokens, {latents[0], latents[2], latents[3]}, patch);
  return ops.to_rgb8(decode(ops, vae.config, vae.weights, pictures, vae.band_rows));
}

}  // namespace inkstone
