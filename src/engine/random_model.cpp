// A model's folder of random weights: of a real model's sizes and formats, for rehearsals of memory, disks and time.
#include <algorithm>
#include <array>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <ranges>
#include <sys/file.h>
#include <unistd.h>

#include "inkstone/inkstone.h"

#include "core/option_error.h"
#include "core/thread_pool.h"
#include "engine/config_json.h"
#include "engine/model.h"
#include "engine/random_weights.h"
#include "engine/stages.h"
#include "io/atomic_file.h"
#include "io/json.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/dry_device.h"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr size_t kShardBytes = size_t{1} << 30;        // held in memory until it is written
constexpr std::array<int64_t, 3> kKernel = {3, 3, 3};  // of a causal convolution
constexpr int64_t kKernelNumbers = kKernel[0] * kKernel[1] * kKernel[2];

struct Preset {
  std::string_view name;
  TransformerConfig transformer;
  TextEncoderConfig text_encoder;
  VaeConfig vae;
  ModelDefaults defaults;
};

/// The published model's sizes are the configurations' defaults.
Preset published_preset() { return {.name = "qwen-image-2512"}; }

/// Those of the model that ships.
Preset tiny_preset() {
  Preset p = {.name = "tiny"};
  p.transformer.layers = 8;
  p.transformer.heads = 3;
  p.transformer.head_width = 64;
  p.transformer.text_width = 192;
  p.transformer.rope_axes = {16, 24, 24};
  p.text_encoder.width = p.transformer.text_width;
  p.text_encoder.intermediate = 512;
  p.text_encoder.layers = 4;
  p.text_encoder.heads = 6;
  p.text_encoder.kv_heads = 2;
  p.text_encoder.head_width = 32;
  p.text_encoder.vocabulary = 1111;
  p.vae.base = 32;
  p.vae.multipliers = {1, 1, 2, 2};
  p.vae.res_blocks = 1;
  p.defaults = {.steps = 20, .width = 256, .height = 256};
  return p;
}

Preset preset_of(const RandomModelOptions& options) {
  const std::array presets = {published_preset(), tiny_preset()};
  const auto found = std::ranges::find(presets, options.preset, &Preset::name);
  check_option(found != presets.end(), "preset \"{}\": there are {} and {}", options.preset, presets[0].name,
               presets[1].name);
  Preset preset = *found;
  preset.vae.latents_mean.assign(static_cast<size_t>(preset.vae.latent_channels), 0.0);
  preset.vae.latents_std.assign(static_cast<size_t>(preset.vae.latent_channels), 1.0);
  if (!options.layers) return preset;
  check_option(*options.layers >= 1 && *options.layers <= preset.transformer.layers, "layers {}: {} has 1 to {}",
               *options.layers, preset.name, preset.transformer.layers);
  preset.transformer.layers = *options.layers;
  preset.text_encoder.layers = std::min(*options.layers, preset.text_encoder.layers);
  return preset;
}

struct NoFiles {
  Checkpoint no_files;
};

/// Sums the bytes of what a model asks for.
class RandomSizes final : private NoFiles, public WeightLoader {
 public:
  RandomSizes(RandomFormat format, Device& device) : WeightLoader(no_files, device), format_(format) {}

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) override {
    Linear layer;
    for (const SlabName& slab : slabs) {
      layer.slabs.push_back({table(slab.name, slab.out, in), {}});
      if (bias == Bias::present) vector({}, slab.out);
    }
    return layer;
  }
  Weight table(const std::string& name, int64_t rows, int64_t width) override {
    bytes_ += random_matrix_bytes(format_, name, rows, width);
    return {.out = rows, .in = width};
  }
  Tensor vector(const std::string&, int64_t n) override {
    bytes_ += static_cast<size_t>(n) * sizeof(float);
    return {};
  }
  Conv2d conv2d(const std::string&, int64_t out, int64_t in) override {
    table({}, out, in * kKernelNumbers);
    vector({}, out);
    return {};
  }

  size_t bytes() const { return bytes_; }

 private:
  RandomFormat format_;
  size_t bytes_ = 0;
};

/// Writes what a model asks for, instead of keeping it, to a component's folder.
class RandomFiles final : public WeightLoader {
 public:
  RandomFiles(fs::path folder, RandomFormat format, RandomWeights& random, Device& device, std::stop_token stop)
      : WeightLoader(no_files_, device),
        folder_(std::move(folder)),
        format_(format),
        random_(random),
        stop_(std::move(stop)) {
    fs::create_directory(folder_);
  }

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) override {
    Linear layer = random_.linear(slabs, in, bias);
    for (size_t i = 0; i < slabs.size(); ++i) {
      add(slabs[i].name + std::string(kWeightSuffix), layer.slabs[i].weight);
      add(slabs[i].name + ".bias", layer.slabs[i].bias);
    }
    return layer;
  }

  Weight table(const std::string& name, int64_t rows, int64_t width) override {
    Weight weight = random_.table(name, rows, width);
    add(name, weight);
    return weight;
  }

  Tensor vector(const std::string& name, int64_t n) override {
    Tensor values = random_.vector(name, n);
    add(name, values);
    return values;
  }

  Conv2d conv2d(const std::string& name, int64_t out, int64_t in) override {
    const auto [frames, height, width] = kKernel;
    const Weight kernels = random_.table(name, out, in * kKernelNumbers);
    add(name + std::string(kWeightSuffix), kernels.data.reshape({out, in, frames, height, width}));
    vector(name + ".bias", out);
    return {};
  }

  /// Ends the component.
  void write(const ordered_json& config) {
    write_shard();
    if (shards_ > 1)
      write_json(folder_ / "model.safetensors.index.json",
                 {{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", weight_map_}});
    write_json(folder_ / "config.json", config);
  }

 private:
  void add(const std::string& name, Weight& weight) {
    const std::string layer = name.substr(0, name.size() - kWeightSuffix.size());
    add(name, weight.data);
    add(layer + (weight.format == WeightFormat::f8_e4m3 ? ".weight_scale" : ".scales"), weight.scales);  // as ComfyUI
    if (weight.factors) return add_mixed(layer, weight);
    add(layer + (is_for_cpu(format_) ? ".offsets" : ".biases"), weight.offsets);  // as `quantize`, or as mflux
  }

  void add_mixed(const std::string& layer, Weight& weight) {
    const std::string_view order = weight.offsets ? kMixedSmallDescription : kMixedDescription;
    const Tensor text = host_tensor({static_cast<int64_t>(order.size())}, DType::u8);
    std::ranges::copy(order, text.data<char>());
    add(layer + ".order", Tensor(text));
    add(layer + ".factors", weight.factors);
    add(layer + ".steps", weight.offsets);
  }

  /// Takes a tensor, if there is one, away from the layer that it was made for.
  void add(const std::string& name, Tensor& tensor) {
    if (!tensor) return;
    if (shard_bytes_ > 0 && shard_bytes_ + tensor.bytes() > kShardBytes) write_shard();
    shard_bytes_ += tensor.bytes();
    shard_.emplace(name, std::exchange(tensor, {}));
  }
  void add(const std::string& name, Tensor&& tensor) { add(name, tensor); }

  void write_shard() {
    const std::string file = fmt::format("model-{:05}.safetensors", ++shards_);
    write_safetensors(folder_ / file, shard_, {}, stop_);
    for (const auto& item : shard_) weight_map_[item.first] = file;
    total_bytes_ += shard_bytes_;
    shard_bytes_ = 0;
    shard_.clear();
  }

  Checkpoint no_files_;
  fs::path folder_;
  RandomFormat format_;
  RandomWeights& random_;
  std::stop_token stop_;
  std::map<std::string, Tensor> shard_;
  size_t shard_bytes_ = 0, total_bytes_ = 0;
  int shards_ = 0;
  ordered_json weight_map_ = ordered_json::object();
};

class RandomModel {
 public:
  RandomModel(fs::path folder, const RandomModelOptions& options)
      : folder_(std::move(folder)),
        options_(options),
        format_(random_format(options.format)),
        preset_(preset_of(options)),
        stages_(options.progress) {}

  void write() {
    check_room(folder_, bytes());
    // First: where the model that they come from is missing, that is said before minutes of writing.
    for (const char* part : {"tokenizer", "scheduler", "model_index.json"})
      fs::copy(default_model() / part, folder_ / part, fs::copy_options::recursive);
    constexpr int64_t kComponents = 3;
    stages_.begin(Stage::write, kComponents);
    write_component("transformer", preset_.transformer, load_transformer, format_);
    write_component("text_encoder", preset_.text_encoder, load_text_encoder, format_);
    write_component("vae", preset_.vae, load_vae, vae_format());
    const ModelDefaults& d = preset_.defaults;
    write_json(folder_ / "inkstone.json",
               {{"steps", d.steps}, {"width", d.width}, {"height", d.height}, {"cfg", d.cfg}});
  }

 private:
  /// It is never packed.
  RandomFormat vae_format() const {
    return format_ == RandomFormat::f32 || format_ == RandomFormat::f16 ? format_ : RandomFormat::bf16;
  }

  /// Of all weights.
  size_t bytes() {
    RandomSizes sizes(format_, *device_), vae(vae_format(), *device_);
    load_transformer(preset_.transformer, sizes);
    load_text_encoder(preset_.text_encoder, sizes);
    load_vae(preset_.vae, vae);
    return sizes.bytes() + vae.bytes();
  }

  template <class Config, class Weights>
  void write_component(const char* name, const Config& config, Weights (*load)(const Config&, WeightLoader&),
                       RandomFormat format) {
    RandomWeights random(*device_, format, options_.threads > 0 ? options_.threads : usable_processors(),
                         options_.stop);
    RandomFiles files(folder_ / name, format, random, *device_, options_.stop);
    load(config, files);
    files.write(config_json(config));
    stages_.step_done();
  }

  fs::path folder_;
  const RandomModelOptions& options_;
  RandomFormat format_;
  Preset preset_;
  Stages stages_;
  std::unique_ptr<Device> device_ = make_dry_device();  // leaves tensors on the host
};

/// A hidden folder that is gone unless it was kept. What a run that was killed left is removed by the next one for the
/// same target.
class PartialFolder {
 public:
  explicit PartialFolder(const fs::path& target)
      : target_(target), path_(target.parent_path() / fmt::format(".inkstone-{}.partial", target.filename().string())) {
    fs::create_directory(path_);
    lock_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ < 0 || flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      if (lock_ >= 0) close(lock_);
      fail("{}: another run is writing there", path_.string());
    }
    for (const fs::path& left : fs::directory_iterator(path_)) fs::remove_all(left);
  }
  ~PartialFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    close(lock_);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  const fs::path& path() const { return path_; }
  void keep() { fs::rename(path_, target_); }

 private:
  fs::path target_, path_;
  int lock_ = -1;
};

}  // namespace

void write_random_model(const fs::path& folder, const RandomModelOptions& options) {
  try {
    const fs::path target = (folder / "").parent_path();
    check(!fs::exists(target), "{}: is there already; the name of a new folder is needed", target.string());
    PartialFolder partial(target);
    RandomModel(partial.path(), options).write();
    partial.keep();
  } catch (const fs::filesystem_error& e) {
    fail("{}: cannot write: {}", folder.string(), e.code().message());
  }
}

}  // namespace inkstone
