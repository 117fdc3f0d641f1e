#include "engine/metadata.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/json.h"

namespace inkstone {
namespace {

using nlohmann::json;

template <class T, size_t n>
using Names = std::array<std::pair<std::string_view, T>, n>;

constexpr Names<HeldAs, 3> kHeldAs = {{{"stored", HeldAs::stored}, {"f32", HeldAs::f32}, {"bf16", HeldAs::bf16}}};
constexpr Names<Arithmetic, 8> kArithmetics = {{{"f32", Arithmetic::f32},
                                                {"int8", Arithmetic::int8},
                                                {"fp8", Arithmetic::fp8},
                                                {"fp8_all", Arithmetic::fp8_all},
                                                {"int8_all", Arithmetic::int8_all},
                                                {"half", Arithmetic::half},
                                                {"fp16", Arithmetic::fp16},
                                                {"bf16", Arithmetic::bf16}}};
constexpr Names<DeviceKind, 3> kDevices = {
    {{"cpu", DeviceKind::cpu}, {"reference", DeviceKind::reference}, {"cuda", DeviceKind::cuda}}};

constexpr Names<Preset, 3> kPresets = {
    {{"none", Preset::none}, {"lightning-4", Preset::lightning_4}, {"lightning-8", Preset::lightning_8}}};

/// Options that replace a component, and the field that names what replaced it.
constexpr Names<std::filesystem::path EngineOptions::*, 4> kReplacements = {{
    {"transformer", &EngineOptions::transformer},
    {"text_encoder", &EngineOptions::text_encoder},
    {"vae", &EngineOptions::vae},
    {"tokenizer", &EngineOptions::tokenizer},
}};

template <class T, size_t n>
std::string_view name_in(const Names<T, n>& names, T value) {
  return std::find_if(names.begin(), names.end(), [&](const auto& entry) { return entry.second == value; })->first;
}

/// The value that a field names.
template <class T, size_t n>
T value_in(const Names<T, n>& names, const JsonFile& file, const std::string& field) {
  const std::string text = file.text(field);
  std::vector<std::string_view> known;
  for (const auto& [name, value] : names) {
    if (name == text) return value;
    known.push_back(name);
  }
  file.refuse(field, fmt::format("{}", fmt::join(known, " or ")));
}

uint64_t read_seed(const JsonFile& file) {
  const auto seed = file.object().find("seed");
  if (seed == file.object().end() || !seed->is_number_unsigned()) file.refuse("seed", "an integer from 0 to 2^64 - 1");
  return seed->get<uint64_t>();
}

json loras_json(const std::vector<Model::LoraInUse>& loras) {
  json list = json::array();
  for (const Model::LoraInUse& lora : loras) list.push_back({{"name", lora.name}, {"scale", lora.scale}});
  return list;
}

/// LoRAs are given by name, so that scales may come from the picture; none given, or others, are another picture.
void read_loras(const JsonFile& file, EngineOptions& options) {
  if (!file.has("loras")) return;
  for (const JsonFile& lora : file.children("loras")) {
    const std::string name = lora.text("name");
    const auto given =
        std::ranges::find_if(options.loras, [&](const LoraOption& option) { return folder_name(option.path) == name; });
    if (given == options.loras.end() && options.loras.empty()) lora.refuse("name", "the file of that lora");
    if (given != options.loras.end() && !given->scale) given->scale = lora.number("scale");
  }
}

/// Throws Error unless the options name what the picture was made with, as far as they must.
void check_model(const JsonFile& file, const EngineOptions& options) {
  if (options.model.empty() && file.text("model") != folder_name(default_model()))
    file.refuse("model", fmt::format("{} (the model that ships with Inkstone) or the folder of that model",
                                     folder_name(default_model())));
  for (const auto& [field, option] : kReplacements) {
    const std::string name(field);
    if (!file.has(name) || !(options.*option).empty()) continue;
    std::string words = name;
    std::ranges::replace(words, '_', ' ');
    file.refuse(name, "the file or folder of that " + words);
  }
}

}  // namespace

std::string picture_metadata(const Job& job, const Model& model, const EngineOptions& options, int64_t index) {
  json data = {
      {"prompt", job.prompt},
      {"negative_prompt", job.guided ? json(job.negative) : json()},
      {"steps", job.steps},
      {"cfg", job.cfg},
      {"width", job.width},
      {"height", job.height},
      {"model", model.name},
      {"fingerprint", model.fingerprint},
      {"dtype", name_in(kHeldAs, options.held_as)},
      {"arithmetic", name_in(kArithmetics, options.arithmetic)},
      {"device", name_in(kDevices, options.device)},
      {"versions", {{"inkstone", version()}}},
  };
  for (const auto& [component, name] : model.replaced) data[component] = name;
  if (!model.loras.empty()) data["loras"] = loras_json(model.loras);
  if (job.preset != Preset::none) data["preset"] = name_in(kPresets, job.preset);
  if (job.max_sequence_length) data["max_sequence_length"] = *job.max_sequence_length;
  if (job.noise_file.empty()) {
    data["seed"] = job.seed + static_cast<uint64_t>(index);
  } else {
    data["noise"] = job.noise_file.string();
    data["index"] = job.noise_index.value_or(index);
  }
  return data.dump();
}

Request parse_metadata(std::string_view text, const std::filesystem::path& picture, EngineOptions& options) {
  const JsonFile file(picture, parse_json(text, picture.string() + ": what it says of itself"));
  check_model(file, options);
  read_loras(file, options);
  options.held_as = value_in(kHeldAs, file, "dtype");
  options.device = value_in(kDevices, file, "device");
  options.arithmetic = file.has("arithmetic") ? value_in(kArithmetics, file, "arithmetic") : Arithmetic::f32;

  Request request = {.prompt = file.text("prompt")};
  if (file.has("fingerprint")) request.model_fingerprint = file.text("fingerprint");
  if (file.has("negative_prompt")) request.negative_prompt = file.text("negative_prompt");
  if (file.has("noise")) {
    request.noise = file.text("noise");
    request.noise_index = file.integer("index", 0, kMaxPictures - 1);
  } else {
    request.seed = read_seed(file);
  }
  if (file.has("preset")) request.preset = value_in(kPresets, file, "preset");
  request.steps = file.integer("steps", 1, kMaxSteps);
  request.cfg = file.number("cfg");
  if (*request.cfg < 1 || *request.cfg > kMaxCfg) file.refuse("cfg", fmt::format("a number from 1 to {}", kMaxCfg));
  request.width = file.integer("width", 1, kMaxSide);
  request.height = file.integer("height", 1, kMaxSide);
  if (file.has("max_sequence_length"))
    request.max_sequence_length = file.integer("max_sequence_length", 1, kMaxSequenceLength);
  return request;
}

}  // namespace inkstone
