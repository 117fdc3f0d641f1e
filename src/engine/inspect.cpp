// What a folder or file is.
#include <algorithm>
#include <array>
#include <regex>

#include "inkstone/inkstone.h"

#include "core/error.h"
#include "engine/census.h"
#include "engine/component_totals.h"
#include "io/json.h"
#include "io/lora.h"
#include "model/config_file.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/dry_device.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

constexpr std::array<Component, 3> kComponents = {Component::transformer, Component::text_encoder, Component::vae};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Parts of names that only one kind of file has; the first kind that a file matches is its kind.
struct Kind {
  std::string_view name;
  std::array<std::string_view, 5> marks;  ///< unused ones are empty
};
constexpr std::string_view kLora = "lora";
constexpr std::array<Kind, 4> kKinds = {{
    {kLora, {".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", "lora_unet_"}},
    {"transformer", {"transformer_blocks.0."}},
    {"text_encoder", {"layers.0.self_attn.", "blk.0.attn_"}},
    {"vae", {"decoder.conv_in.", "decoder.conv1.", "encoder.conv_in.", "encoder.conv1."}},
}};

bool has_mark(const Kind& kind, const std::string& name) {
  return std::ranges::any_of(
      kind.marks, [&](std::string_view mark) { return !mark.empty() && name.find(mark) != std::string::npos; });
}

std::string kind_of(const Checkpoint& files) {
  for (const Kind& kind : kKinds)
    for (const auto& [canonical, tensor] : files.tensors)
      if (has_mark(kind, tensor.name)) return std::string(kind.name);
  fail("{}: none of its {} tensors (the first is {}) belongs to a transformer, text encoder, VAE or LoRA",
       files.path.string(), files.tensors.size(), shown(files.tensors.begin()->second.name));
}

json config_json(const TransformerConfig& c) {
  return {{"layers", c.layers},
          {"heads", c.heads},
          {"head_width", c.head_width},
          {"width", c.width()},
          {"text_width", c.text_width},
          {"in_channels", c.in_channels},
          {"out_channels", c.out_channels},
          {"patch", c.patch},
          {"rope_axes", c.rope_axes}};
}

/// The double that prints like a float: 1e-06, not 9.99999997e-07.
double shortest(float x) { return std::stod(fmt::format("{}", x)); }

json config_json(const TextEncoderConfig& c) {
  return {{"layers", c.layers},         {"heads", c.heads},
          {"kv_heads", c.kv_heads},     {"head_width", c.head_width},
          {"width", c.width},           {"intermediate", c.intermediate},
          {"vocabulary", c.vocabulary}, {"norm_eps", shortest(c.norm_eps)},
          {"rope_theta", c.rope_theta}};
}

json config_json(const VaeConfig& c) {
  return {{"base", c.base},
          {"multipliers", c.multipliers},
          {"res_blocks", c.res_blocks},
          {"latent_channels", c.latent_channels},
          {"image_channels", c.image_channels},
          {"scale", c.scale()}};
}

/// Adds configuration, and what is missing and surplus for it.
template <class Config, class Weights>
void add_config(json& out, const Checkpoint& files, Config (*read)(const Checkpoint&, ConfigOrigin&),
                Weights (*load)(const Config&, WeightLoader&)) {
  ConfigOrigin origin;
  const Config config = read(files, origin);
  out["config"] = config_json(config);
  const auto device = make_dry_device();
  Census census(files, *device);
  load(config, census);
  for (const std::string& name : census.missing()) out["missing"].push_back(name);
  out["surplus"] = census.surplus();
}

void add_config(json& out, const Checkpoint& files) {
  switch (files.component) {
    case Component::transformer:
      return add_config(out, files, read_transformer_config, load_transformer);
    case Component::text_encoder:
      return add_config(out, files, read_text_encoder_config, load_text_encoder);
    case Component::vae:
      return add_config(out, files, read_vae_config, load_vae);
  }
}

/// Every key, for a component of which nothing is known yet.
json unknown_json(const fs::path& path, const std::string& kind) {
  return {{"component", kind},        {"path", path.string()},
          {"format", "unknown"},      {"scheme", "unknown"},
          {"files", json::array()},   {"tensors", 0},
          {"parameters", 0},          {"bytes", 0},
          {"dtypes", json::object()}, {"config", json::object()},
          {"missing", json::array()}, {"surplus", json::array()}};
}

/// A layer's name with its block's number left open, so that the blocks' layers count together.
std::string target_of(const std::string& layer) {
  static const std::regex number("(blocks[._])[0-9]+");
  return std::regex_replace(layer, number, "$1*");
}

/// What read_lora() finds takes the place of what is said of components.
void add_lora(json& out, const fs::path& file) {
  const Lora lora = read_lora(file);
  std::map<std::string, int64_t> targets;
  for (const auto& [name, layer] : lora.layers) ++targets[target_of(name)];
  out["scheme"] = lora.spelling();
  out["config"] = {{"layers", lora.layers.size()}, {"ranks", lora.ranks()}, {"alphas", lora.alphas()}};
  out["targets"] = targets;
  out["surplus"] = lora.unknown;
}

json component_json(const Checkpoint& files, const std::string& kind) {
  const ComponentTotals totals = totals_of(files);
  json out = unknown_json(files.path, kind);
  for (const fs::path& file : files.files) out["files"].push_back(file.filename().string());
  out["format"] = totals.format;
  out["scheme"] = files.scheme->name;
  out["tensors"] = files.tensors.size();
  out["parameters"] = totals.parameters;
  out["bytes"] = totals.bytes;
  out["dtypes"] = totals.dtypes;
  try {
    if (kind == kLora) {
      add_lora(out, files.files.front());
      return out;
    }
    const bool tells = files.component == Component::text_encoder && !files.metadata.is_null();  // GGUF
    if (!tells && !find_config(files)) out["missing"].push_back("config.json");
    add_config(out, files);
  } catch (const Error& e) {
    out["error"] = e.what();
  }
  return out;
}

/// A folder or file of one component, whose kind its tensors' names tell.
json single_json(const fs::path& path) {
  const Checkpoint any = open_checkpoint(path, Component::transformer);
  const std::string kind = kind_of(any);
  const auto component = std::ranges::find(kComponents, kind, [](Component c) { return name_of(c); });
  if (component == kComponents.end()) return component_json(any, kind);
  return component_json(open_checkpoint(path, *component), kind);
}

/// The components of one file, if it holds several.
json all_in_one_json(const fs::path& file) {
  json components = json::array();
  for (const Component component : kComponents) {
    try {
      const Checkpoint files = open_checkpoint(file, component);
      if (files.find(telling_tensor(component)) != nullptr)
        components.push_back(component_json(files, std::string(name_of(component))));
    } catch (const Error&) {  // told by single_json
    }
  }
  return components.size() > 1 ? components : json::array();
}

/// A component of a model. If its files cannot be read the others are told all the same.
json part_json(const fs::path& folder, Component component) {
  const std::string name(name_of(component));
  try {
    return component_json(open_checkpoint(folder / name, component), name);
  } catch (const Error& e) {
    json out = unknown_json(folder / name, name);
    out["error"] = e.what();
    return out;
  }
}

bool is_model(const fs::path& path) {
  return is_there(path / "model_index.json") ||
         std::ranges::any_of(kComponents, [&](Component c) { return is_there(path / name_of(c)); });
}

}  // namespace

std::string inspect_json(const fs::path& path) {
  check(is_there(path), "{}: no such file or folder", path.string());
  json out = {{"path", path.string()}, {"components", json::array()}, {"missing", json::array()}};
  if (!is_model(path)) {
    out["components"] = all_in_one_json(path);
    if (out["components"].empty()) out["components"].push_back(single_json(path));
    return out.dump(2);
  }
  for (const Component component : kComponents) {
    const bool there = is_there(path / name_of(component));
    if (there) out["components"].push_back(part_json(path, component));
    if (!there || out["components"].back()["files"].empty()) out["missing"].push_back(name_of(component));
  }
  for (const std::string_view name : {"tokenizer", "scheduler", "model_index.json"})
    if (!is_there(path / name)) out["missing"].push_back(name);
  return out.dump(2);
}

}  // namespace inkstone
