#include "engine/dry_run.h"

#include "model/pipeline.h"
#include "model/text_encoder.h"
#include "ops/dry_device.h"

namespace inkstone {
struct DryRun::Parts {
  Parts(const Model& m, const VaeWeights& v) : model(m), vae(v) {}

  template <class Config, class Weights>
  Weights bind(const Checkpoint& files, const Config& config, Weights (*load)(const Config&, WeightLoader&)) {
    WeightLoader loader(files, *device);
    return load(config, loader);
  }

  Tensor activations(const Shape& shape) {
    return {device->allocate(static_cast<size_t>(shape.count()) * sizeof(float)), 0, shape, DType::f32};
  }

  template <class Run>
  size_t peak_of(const Run& run) {
    device->reset_peak();
    run();
    return device->memory().peak;
  }

  const Model& model;
  const VaeWeights& vae;
  std::unique_ptr<Device> device = make_dry_device();
  Ops ops{*device};
  TextEncoderWeights text_encoder = bind(model.text_encoder_files, model.text_encoder, load_text_encoder);
  TransformerWeights transformer = bind(model.transformer_files, model.transformer, load_transformer);
};

DryRun::DryRun(const Model& model, const VaeWeights& vae) : parts_(std::make_unique<Parts>(model, vae)) {}
DryRun::~DryRun() = default;

size_t DryRun::encode(int64_t tokens) {
  Parts& p = *parts_;
  return p.peak_of([&] {
    const Tensor ids(p.device->allocate(static_cast<size_t>(tokens) * sizeof(int32_t)), 0, {tokens}, DType::i32);
    encode_text(p.ops, p.model.text_encoder, p.text_encoder, ids, Sequences::equal(1, tokens));
  });
}

size_t DryRun::denoise(const Job& job, int64_t pictures) {
  Parts& p = *parts_;
  return p.peak_of([&] {
    const auto texts = [&](const PromptTokens& tokens) {
      return std::vector(static_cast<size_t>(pictures), p.activations({tokens.kept(), p.model.text_encoder.width}));
    };
    const Batch batch = {.grid = job.grid,
                         .prompts = texts(job.prompt_tokens),
                         .negatives = job.guided ? texts(job.negative_tokens) : std::vector<Tensor>()};
    const Transformer transformer(p.model.transformer, p.transformer);
    const Sampler sampler(p.ops, transformer, job.sigmas, job.cfg);
    const Tensor tokens = p.ops.patchify(p.activations(job.latents.with_first(pictures)), p.model.transformer.patch);
    sampler.run(batch, tokens, [] {});
  });
}

size_t DryRun::decode(const Job& job, int64_t band_rows) {
  Parts& p = *parts_;
  return p.peak_of([&] {
    const Tensor tokens = p.activations({job.grid.tokens(), p.model.transformer.in_channels});
    decode_tokens(p.ops, {p.model.vae, p.vae, band_rows}, tokens, job.latents.with_first(1), p.model.transformer.patch);
  });
}

}  // namespace inkstone
