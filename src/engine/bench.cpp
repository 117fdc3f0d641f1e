// Full-size work on random weights, measured against what the machine can do.
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "inkstone/combination_error.h"
#include "inkstone/inkstone.h"

#include "core/option_error.h"
#include "cpu/peak.h"
#include "engine/device_peak.h"
#include "engine/machine.h"
#include "engine/random_weights.h"
#include "engine/stages.h"
#include "engine/timing.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/dry_device.h"
#include "ops/repeated.h"
#include "ops/trace.h"

namespace inkstone {
namespace {

constexpr int64_t kTextTokens = 64;      // of a prompt of some 50 words
constexpr int64_t kTemplateTokens = 34;  // the encoder reads them too
constexpr int64_t kRuns = 5;             // at least
constexpr int64_t kMaxRuns = 25;
constexpr double kEnoughSeconds = 2;  // short work is repeated for so long

/// Something to measure; run() gives its last result.
class Work {
 public:
  virtual ~Work() = default;
  virtual Tensor run(Ops& ops) = 0;
};

/// The grid of a square picture.
Grid square_grid(int64_t size, int64_t unit) {
  check_option(size % unit == 0, "size {}: multiples of {} work", size, unit);
  return grid_of(size, size, unit);
}

/// A few blocks of the transformer on one picture and its text.
class BlockWork final : public Work {
 public:
  BlockWork(Ops& ops, RandomWeights& random, const BenchOptions& options) : ops_(&ops), layers_(options.layers) {
    config_.layers = options.layers;
    weights_ = load_transformer(config_, random);
    weights_.blocks.push_back(weights_.blocks.front());  // after the last block the text is not needed any more
    const Grid grid = square_grid(options.size, config_.patch * VaeConfig().scale());
    const Transformer transformer(config_, weights_);
    const std::vector<float> time = {0.5f};
    tables_ = transformer.modulate(ops, ops.upload(host_tensor(time)));
    rows_ = Transformer::rows_of_step(ops, 0, 1);
    condition_ = transformer.condition(ops, random.activations({kTextTokens, config_.text_width}),
                                       Sequences::equal(1, kTextTokens), grid);
    img_ = random.activations({grid.tokens(), config_.width()});
    blocks_.emplace(
        ops, [&](std::span<const Tensor> in) { return blocks_of(ops, in[0]); }, kMaxRuns);
  }

  /// As a step of many does it, replayed where the device can.
  Tensor run(Ops& ops) override { return &ops == ops_ ? (*blocks_)({img_}) : blocks_of(ops, img_); }

 private:
  Tensor blocks_of(Ops& ops, const Tensor& img) const {
    const Transformer transformer(config_, weights_);
    Transformer::Streams x = {.txt = condition_.txt, .img = img};
    for (int64_t i = 0; i < layers_; ++i)
      x = transformer.block(ops, static_cast<size_t>(i), x, condition_, tables_, rows_);
    return x.img;
  }

  const Ops* ops_;
  int64_t layers_;
  TransformerConfig config_;
  TransformerWeights weights_;
  ModulationTables tables_;
  StepRows rows_;
  Conditioning condition_;
  Tensor img_;
  std::optional<Repeated> blocks_;
};

/// A few layers of the text encoder on one prompt.
class EncoderWork final : public Work {
 public:
  EncoderWork(Ops& ops, RandomWeights& random, const BenchOptions& options) {
    config_.layers = options.layers;
    config_.vocabulary = kTextTokens;  // looking up rows costs nothing, a whole table costs time to make
    weights_ = load_text_encoder(config_, random);
    if (rounds_text(options.arithmetic)) tolerate_rounding(weights_);
    std::vector<int32_t> ids(kTextTokens + kTemplateTokens);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i) % static_cast<int32_t>(kTextTokens);
    ids_ = ops.upload(host_tensor(ids));
  }

  Tensor run(Ops& ops) override { return encode_text(ops, config_, weights_, ids_, Sequences::equal(1, ids_.dim(0))); }

 private:
  TextEncoderConfig config_;
  TextEncoderWeights weights_;
  Tensor ids_;
};

/// The decoder on one picture.
class VaeWork final : public Work {
 public:
  VaeWork(Ops&, RandomWeights& random, const BenchOptions& options) : band_rows_(options.band_rows) {
    config_.latents_mean.assign(static_cast<size_t>(config_.latent_channels), 0.0);
    config_.latents_std.assign(static_cast<size_t>(config_.latent_channels), 1.0);
    weights_ = load_vae(config_, random);
    const Grid grid = square_grid(options.size, config_.scale());
    latents_ = random.activations({1, grid.height, grid.width, config_.latent_channels});
  }

  Tensor run(Ops& ops) override { return decode(ops, config_, weights_, latents_, band_rows_); }

 private:
  int64_t band_rows_;
  VaeConfig config_;
  VaeWeights weights_;
  Tensor latents_;
};

std::unique_ptr<Work> make_work(Ops& ops, RandomWeights& random, const BenchOptions& options) {
  switch (options.kind) {
    case BenchKind::block:
      return std::make_unique<BlockWork>(ops, random, options);
    case BenchKind::encoder:
      return std::make_unique<EncoderWork>(ops, random, options);
    case BenchKind::vae:
      break;
  }
  return std::make_unique<VaeWork>(ops, random, options);
}

double seconds_of(Work& work, Machine& machine) {
  const auto start = Clock::now();
  const Tensor result = work.run(machine.ops());
  machine.device().wait();
  return seconds_since(start);
}

/// How often to repeat work that takes so long.
int64_t runs_for(double seconds) {
  return std::clamp(static_cast<int64_t>(std::ceil(kEnoughSeconds / seconds)), kRuns, kMaxRuns);
}

double median_seconds(Work& work, Machine& machine, int64_t runs, const std::function<void()>& run_done) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < runs; ++i) {
    seconds.push_back(seconds_of(work, machine));
    run_done();
  }
  return median(seconds);
}

/// Where generate does this work.
Stage stage_of(BenchKind kind) {
  switch (kind) {
    case BenchKind::block:
      return Stage::denoise;
    case BenchKind::encoder:
      return Stage::encode;
    case BenchKind::vae:
      break;
  }
  return Stage::decode;
}

/// Multiply-adds counted as two, without doing them.
double flop_of(Work& work) {
  const auto device = make_dry_device();
  Trace trace;
  Ops ops(*device, trace);
  work.run(ops);
  return trace.totals().flop;
}

/// What the device can reach: the rate of the cores, or where a device has its own memory one large product's.
double measure_peak(Machine& machine, const BenchOptions& options, int threads) {
  if (!machine.device().own_memory()) {
    if (const auto& half = machine.half(); half && half->ops != nullptr) return measure_half_peak(*half->ops, threads);
    const auto measure = is_int8(options.arithmetic) ? measure_int8_peak_of : measure_f32_peak_of;
    return measure(isa_of(options.isa), threads);
  }
  const RandomFormat format = random_format(options.format);
  const RandomFormat of_product = format == RandomFormat::f32 ? format : RandomFormat::bf16;
  return ProductPeak(machine.device(), of_product, threads).measure(machine.ops());
}

}  // namespace

BenchResult run_bench(const BenchOptions& options) {
  check_option(options.kind != BenchKind::vae || options.layers == 1, "layers {}: the vae is measured whole",
               options.layers);
  if (options.kind == BenchKind::vae && is_half(options.arithmetic))
    throw CombinationError("arithmetic: the vae has none in 16 bits; block and encoder have");
  if (options.kind == BenchKind::encoder && options.arithmetic != Arithmetic::f32 && !rounds_text(options.arithmetic))
    throw CombinationError(
        "arithmetic: that of the encoder is f32 with int8, fp8 and fp8_all; int8_all and half round it too");
  check_option(options.layers >= 1 && options.layers <= kMaxBenchLayers, "layers {}: 1 to {} work", options.layers,
               kMaxBenchLayers);
  check_option(options.size >= 1 && options.size <= kMaxSide, "size {}: 1 to {} work", options.size, kMaxSide);
  const int threads = options.device == DeviceKind::reference ? 1
                      : options.threads > 0                   ? options.threads
                                                              : usable_processors();
  const RandomFormat format = random_format(options.format);
  Machine machine({.device = options.device,
                   .device_index = options.device_index,
                   .held_as = format == RandomFormat::f32 ? HeldAs::f32 : HeldAs::stored,
                   .arithmetic = options.arithmetic,
                   .isa = options.isa,
                   .threads = options.threads,
                   .profile = options.profile});
  check_option(!is_for_cpu(format) || !machine.device().own_memory(),
               "format {}: lies as the cpu's kernels read it; without _cpu it is the same in rows", options.format);
  machine.watch(options.stop);
  Stages stages(options.progress);
  stages.begin(Stage::load);
  RandomWeights random(machine.device(), format, threads, options.stop);
  const auto work = make_work(machine.ops(), random, options);
  const double peak_before = measure_peak(machine, options, threads);
  machine.device().reset_peak();
  const int64_t runs = runs_for(seconds_of(*work, machine));  // the first run pays for page faults
  stages.begin(stage_of(options.kind), runs);
  machine.take_profile();  // what was measured so far is not the work's
  BenchResult result = {.median_s = median_seconds(*work, machine, runs, [&] { stages.step_done(); })};
  result.profile = machine.take_profile();
  if (machine.half()) result.half_kind = name_of(*machine.half());
  result.peak_bytes = machine.device().memory().peak;
  if (!machine.device().own_memory()) result.peak_bytes += random.bytes();
  // Other work may have disturbed one of them.
  const double peak = std::max(peak_before, measure_peak(machine, options, threads));
  const double rate = flop_of(*work) / result.median_s;
  result.gflops = rate / 1e9;
  result.peak_fraction = rate / peak;
  result.peak = peak;
  result.threads = threads;
  if (!machine.device().own_memory() && options.device != DeviceKind::reference)
    result.isa = name_of(isa_of(options.isa));
  return result;
}

}  // namespace inkstone
