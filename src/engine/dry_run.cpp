#include "engine/dry_run.h"

#include <algorithm>
#include <set>

#include "core/host_memory.h"
#include "engine/preview.h"
#include "model/pipeline.h"
#include "ops/dry_device.h"
#include "ops/interceptor.h"

namespace inkstone {
namespace {

constexpr int64_t kEnoughBatches = 2;  // those after them take what the second one takes

template <class Config, class Weights>
Weights bind(const Checkpoint& files, const Config& config, Weights (*load)(const Config&, WeightLoader&)) {
  const auto device = make_dry_device();
  WeightLoader loader(files, *device);
  return load(config, loader);
}

/// Counts what linear steps, convolutions and attention of a device would take beside its pool, and runs nothing.
class StepMeter final : public Interceptor {
 public:
  explicit StepMeter(const Device& counted) : counted_(counted) {}

  size_t bytes() const { return most_ + counted_.kept_of(layers_, {}).bytes; }
  const std::vector<const Linear*>& layers() const { return layers_; }

 private:
  void intercept(const Call& call) override {
    if (call.conv != nullptr) most_ = std::max(most_, counted_.conv_bytes(as_given(call.in.front()), *call.conv));
    if (call.tolerant != nullptr) most_ = std::max(most_, counted_.attention_bytes(*call.tolerant));
    std::vector<LinearPart> parts(call.parts.begin(), call.parts.end());
    for (LinearPart& part : parts) {
      if (known_.insert(part.layer).second) layers_.push_back(part.layer);
      if (part.epilogue.feeds != nullptr) fed_.insert(part.epilogue.feeds);
      // What feeds a layer has rounded its input, if the device rounds at all.
      part.x = fed_.contains(part.layer) ? retyped(part.x, DType::i8) : as_given(part.x);
    }
    most_ = std::max(most_, counted_.step_bytes(parts));
    if (gives_operands(call))
      for (const Tensor& out : call.out) narrowed_.insert(out.buffer());
  }

  static Tensor retyped(const Tensor& t, DType type) { return {t.buffer(), t.offset(), t.shape(), type}; }

  /// Whether only products or convolutions read what an op gives: a device writes it in its narrow type, though the
  /// memory has room for more.
  static bool gives_operands(const Call& call) {
    return call.op == "layer_norm_modulate" || call.op == "swiglu" || (call.conv != nullptr && call.conv->norm);
  }
  /// A tensor in the type that the device has it in.
  Tensor as_given(const Tensor& t) const {
    return narrowed_.contains(t.buffer()) ? retyped(t, counted_.narrow_type()) : t;
  }

  const Device& counted_;
  std::set<std::weak_ptr<Buffer>, std::owner_less<>> narrowed_;  // an address may be another buffer's later
  std::set<const Linear*> known_, fed_;
  std::vector<const Linear*> layers_;
  size_t most_ = 0;
};

/// A device for one stage.
struct DryStage {
  DryStage(const Device& counted, size_t limit)
      : pool(std::make_shared<HostMemory>(limit, HostMemory::Backing::none)),
        device(make_dry_device(pool, counted.narrow_type())),
        meter(counted) {}

  Tensor tensor(const Shape& shape, DType type = DType::f32) {
    return {device->allocate(static_cast<size_t>(shape.count()) * size_of(type)), 0, shape, type};
  }

  std::shared_ptr<HostMemory> pool;
  std::unique_ptr<Device> device;
  StepMeter meter;
  Ops ops{*device, meter};
};

std::optional<PoolUse> use_of(const Device& counted, size_t limit, const auto& run) {
  DryStage stage(counted, limit);
  try {
    run(stage);
  } catch (const Error&) {
    if (limit >= kUnlimitedPool) throw;
    return std::nullopt;
  }
  return PoolUse{.in_use = stage.pool->peak(),
                 .held = stage.pool->most_held(),
                 .trims = stage.pool->was_short(),
                 .beside = stage.meter.bytes(),
                 .layers = stage.meter.layers()};
}

}  // namespace

struct DryRun::Parts {
  const Model& model;
  const VaeWeights& vae;
  const Device& device;
  TextEncoderWeights text_encoder = bind(model.text_encoder_files, model.text_encoder, load_text_encoder);
  TransformerWeights transformer = bind(model.transformer_files, model.transformer, load_transformer);

  /// The conditioning of a job, as the encoder leaves it.
  std::vector<Tensor> embeddings(DryStage& stage, const Job& job) const {
    std::vector<Tensor> all = {stage.tensor({job.prompt_tokens.kept(), model.text_encoder.width})};
    if (job.guided) all.push_back(stage.tensor({job.negative_tokens.kept(), model.text_encoder.width}));
    return all;
  }

  Tensor tokens(DryStage& stage, const Job& job, int64_t pictures) const {
    return stage.tensor({pictures * job.grid.tokens(), model.transformer.in_channels});
  }
};

DryRun::DryRun(const Model& model, const VaeWeights& vae, const On& on)
    : parts_(new Parts{.model = model, .vae = vae, .device = on.device}) {
  if (on.rounds_text) tolerate_rounding(parts_->text_encoder);
}
DryRun::~DryRun() = default;

const TextEncoderWeights& DryRun::text_encoder() const { return parts_->text_encoder; }
const TransformerWeights& DryRun::transformer() const { return parts_->transformer; }

std::optional<PoolUse> DryRun::encode(const Job& job, size_t limit) const {
  return use_of(parts_->device, limit, [&](DryStage& stage) {
    std::vector<Tensor> kept;
    const auto add = [&](const PromptTokens& tokens) {
      const auto length = static_cast<int64_t>(tokens.ids.size());
      const Tensor states = encode_text(stage.ops, parts_->model.text_encoder, parts_->text_encoder,
                                        stage.tensor({length}, DType::i32), Sequences::equal(1, length));
      kept.push_back(stage.ops.concat_rows({states.rows(tokens.dropped, length)}));
    };
    add(job.prompt_tokens);
    if (job.guided) add(job.negative_tokens);
  });
}

std::optional<PoolUse> DryRun::denoise(const Job& job, int64_t pictures, size_t limit) const {
  return use_of(parts_->device, limit, [&](DryStage& stage) {
    const std::vector<Tensor> embeddings = parts_->embeddings(stage, job);
    const auto copies = static_cast<size_t>(pictures);
    const Batch batch = {.grid = job.grid,
                         .prompts = std::vector(copies, embeddings.front()),
                         .negatives = job.guided ? std::vector(copies, embeddings.back()) : std::vector<Tensor>()};
    const Transformer transformer(parts_->model.transformer, parts_->transformer);
    const Sampler sampler(stage.ops, transformer, job.sigmas, job.cfg);
    const int64_t batches = (job.count + pictures - 1) / pictures;
    Tensor before;  // a step, which its preview compares with
    const auto preview = [&](int64_t step, const Tensor& tokens) {
      if (!job.previews) return;
      if (step == 0)  // one is like another
        inkstone::decode(stage.ops, parts_->model.vae, parts_->vae, stage.tensor(preview_latents(job.latents)));
      before = tokens;
    };
    std::vector<Tensor> drawn;
    if (batches > kEnoughBatches) drawn.push_back(parts_->tokens(stage, job, (batches - kEnoughBatches) * pictures));
    for (int64_t i = 0; i < std::min(batches, kEnoughBatches); ++i) {
      Tensor start = parts_->tokens(stage, job, pictures);
      if (job.previews) before = start;
      drawn.push_back(sampler.run(batch, std::move(start), preview));
    }
  });
}

std::optional<PoolUse> DryRun::decode(const Job& job, int64_t band_rows, size_t limit) const {
  return use_of(parts_->device, limit, [&](DryStage& stage) {
    const std::vector<Tensor> embeddings = parts_->embeddings(stage, job);
    const Tensor drawn = parts_->tokens(stage, job, job.count);
    for (int64_t i = 0; i < std::min(job.count, kEnoughBatches); ++i)
      decode_tokens(stage.ops, {parts_->model.vae, parts_->vae, band_rows}, drawn.rows(0, job.grid.tokens()),
                    job.latents.with_first(1), parts_->model.transformer.patch);
  });
}

}  // namespace inkstone
