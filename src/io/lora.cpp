#include "io/lora.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "io/json.h"

namespace inkstone {
namespace {

constexpr std::string_view kPeftMetadata = "lora_adapter_metadata";  // of diffusers, in the file's header
constexpr std::string_view kPeftConfig = "adapter_config.json";      // of PEFT, beside the file
constexpr std::string_view kPeftPrefix = "base_model.model.";

/// What may stand before a layer's name, also several of them.
struct Prefix {
  std::string_view text, spelling;
  bool flat = false;  ///< the layer's name has _ or __ for .
};
constexpr std::array<Prefix, 9> kPrefixes = {{{kPeftPrefix, "peft"},
                                              {"transformer.", "diffusers"},
                                              {"diffusion_model.", "comfyui"},
                                              {"model.diffusion_model.", "comfyui"},
                                              {"pipe.dit.", "diffsynth"},
                                              {"dit.", "diffsynth"},
                                              {"lora_unet_", "kohya", true},
                                              {"lora_transformer_", "onetrainer", true},
                                              {"lycoris_", "lycoris", true}}};

enum class Part : uint8_t { down, up, alpha };
/// What stands behind it, with or without ".weight".
struct Mark {
  std::string_view text;
  Part part;
  bool adapters = false;  ///< the name of an adapter may stand between this and ".weight"
};
constexpr std::array<Mark, 8> kMarks = {{{".lora_A", Part::down, true},
                                         {".lora_B", Part::up, true},
                                         {".lora_down", Part::down},
                                         {".lora_up", Part::up},
                                         {".lora.down", Part::down},
                                         {".lora.up", Part::up},
                                         {".lora_linear_layer.down", Part::down},
                                         {".lora_linear_layer.up", Part::up}}};
constexpr std::string_view kAlpha = ".alpha";

/// A tensor's name taken apart.
struct Key {
  std::string layer;
  Part part;
  bool flat;
  std::string_view spelling;
};

bool ends_a_matrix(std::string_view rest, bool adapters) {
  if (rest.empty() || rest == kWeightSuffix) return true;
  return adapters && rest.starts_with('.') && rest.find('.', 1) == rest.size() - kWeightSuffix.size() &&
         rest.ends_with(kWeightSuffix);
}

/// The layer's name, the part, and whether the mark is PEFT's.
std::optional<Key> without_suffix(std::string_view name) {
  if (name.ends_with(kAlpha) && name.size() > kAlpha.size())
    return Key{std::string(name.substr(0, name.size() - kAlpha.size())), Part::alpha, false, "bare"};
  for (const Mark& mark : kMarks) {
    const size_t at = name.find(mark.text);
    if (at == std::string_view::npos || at == 0) continue;
    if (!ends_a_matrix(name.substr(at + mark.text.size()), mark.adapters)) return std::nullopt;
    return Key{std::string(name.substr(0, at)), mark.part, false, mark.adapters ? "peft" : "bare"};
  }
  return std::nullopt;
}

const Prefix* prefix_of(std::string_view name) {
  const auto* prefix =
      std::find_if(kPrefixes.begin(), kPrefixes.end(), [&](const Prefix& p) { return name.starts_with(p.text); });
  return prefix == kPrefixes.end() ? nullptr : prefix;
}

std::optional<Key> key_of(std::string_view name) {
  const Prefix *first = nullptr, *last = nullptr;
  while (const Prefix* prefix = prefix_of(name)) {
    if (first == nullptr) first = prefix;
    last = prefix;
    name.remove_prefix(prefix->text.size());
  }
  auto key = without_suffix(name);
  if (!key || first == nullptr) return key;
  key->spelling = first->spelling;
  key->flat = last->flat;
  if (!key->flat) return key;
  if (key->layer.find('.') != std::string::npos) return std::nullopt;
  for (size_t at = 0; (at = key->layer.find("__", at)) != std::string::npos;) key->layer.erase(at, 1);
  return key;
}

/// The only number of a tensor, whole ones and F64 too: some trainers save their settings as they were given.
std::optional<double> only_number(const Tensor& tensor) {
  if (tensor.count() != 1) return std::nullopt;
  switch (tensor.dtype()) {
    case DType::f64:
      return *tensor.data<const double>();
    case DType::i64:
      return static_cast<double>(*tensor.data<const int64_t>());
    case DType::i32:
      return *tensor.data<const int32_t>();
    default:
      break;
  }
  if (!dense_format(tensor.dtype())) return std::nullopt;
  float value = 0;
  dequantize_rows(dense_weight(tensor.reshape({1, 1})), 0, 1, &value);
  return value;
}

double number_of(const StoredTensor& tensor) {
  const std::string where = describe(tensor, tensor.name);
  const auto value = only_number(tensor.data);
  check(value.has_value(), "{}: is {} {}, one number is needed", where, name_of(tensor.data.dtype()),
        tensor.data.shape());
  check(std::isfinite(*value), "{}: is {}, a finite number is needed", where, *value);
  return *value;
}

/// Some trainers write a linear layer's matrix as a convolution's of one pixel, (out, in, 1, 1).
bool is_one_pixel(const Shape& shape) { return shape.rank() == 4 && shape[2] == 1 && shape[3] == 1; }

void make_matrix(StoredTensor& tensor) {
  Tensor& t = tensor.data;
  if (is_one_pixel(t.shape())) t = t.reshape({t.dim(0), t.dim(1)});
  const std::string where = describe(tensor, tensor.name);
  check(t.shape().rank() == 2 && dense_format(t.dtype()), "{}: is {} {}, a matrix of {} is needed", where,
        name_of(t.dtype()), t.shape(), dense_types());
  check(t.count() > 0, "{}: has shape {}, which holds no number; a rank of at least 1 is needed", where, t.shape());
}

void finish_pair(LoraLayer& layer, const std::filesystem::path& path) {
  if (layer.down.data && layer.up.data) {
    make_matrix(layer.down);
    make_matrix(layer.up);
    check(layer.up.data.dim(1) == layer.rank(), "{}: has shape {}, but {} {} has rank {}",
          describe(layer.up, layer.up.name), layer.up.data.shape(), shown(layer.down.name), layer.down.data.shape(),
          layer.rank());
    return;
  }
  fail("{}: tensor {} has no other half ({})", path.string(), shown(layer.stored.front()),
       layer.down.data ? "lora_B or lora_up" : "lora_A or lora_down");
}

/// The end of the layers' names that an entry of PEFT's alpha_pattern is for: a regular expression, of which only plain
/// names are understood.
std::string plain_name(const JsonFile& patterns, const std::string& pattern) {
  std::string_view name = pattern;
  if (name.starts_with('^')) name.remove_prefix(1);
  if (name.ends_with('$')) name.remove_suffix(1);
  if (name.find_first_of("^$*+?()[]{}|\\") != std::string_view::npos)
    patterns.refuse(pattern, "the name of a layer, not a pattern,");
  return std::string(name);
}

/// Alphas that are no tensors: one for all layers, and others for some.
class PeftAlphas {
 public:
  PeftAlphas() = default;
  explicit PeftAlphas(const JsonFile& json) {
    for (const auto& [name, value] : json.object().items()) {
      const std::string field = name.substr(name.rfind('.') + 1);  // without the component's name
      if (value.is_null()) continue;
      if (field == "lora_alpha") all_ = json.number(name);
      if (field == "use_rslora") root_ = json.boolean_or(name, false);
      if (field != "alpha_pattern") continue;
      const JsonFile patterns = json.child(name);
      for (const auto& [pattern, alpha] : patterns.object().items())
        of_layer_.emplace_back(plain_name(patterns, pattern), patterns.number(pattern));
    }
  }

  void apply(const std::string& name, LoraLayer& layer) const {
    if (layer.alpha) return;
    const auto own = std::find_if(of_layer_.begin(), of_layer_.end(), [&](const auto& entry) {
      return name == entry.first || name.ends_with("." + entry.first);
    });
    layer.alpha = own == of_layer_.end() ? all_ : std::optional(own->second);
    layer.root = root_;
  }

 private:
  std::optional<double> all_;
  bool root_ = false;
  std::vector<std::pair<std::string, double>> of_layer_;
};

PeftAlphas read_peft_alphas(const SafetensorsFile& file, const std::filesystem::path& path) {
  if (const auto text = file.metadata.find(std::string(kPeftMetadata)); text != file.metadata.end())
    return PeftAlphas(JsonFile(path, parse_json(text->second, path)));
  const bool peft = std::any_of(file.tensors.begin(), file.tensors.end(),
                                [](const auto& item) { return item.first.starts_with(kPeftPrefix); });
  const auto config = peft ? JsonFile::read_if_present(path.parent_path() / kPeftConfig) : std::nullopt;
  return config ? PeftAlphas(*config) : PeftAlphas();
}

void add_tensor(Lora& lora, const Key& key, const StoredTensor& tensor) {
  LoraLayer& layer = lora.layers[key.layer];
  layer.flat = layer.flat || key.flat;
  layer.stored.push_back(tensor.name);
  if (key.part == Part::alpha) {
    check(!layer.alpha, "{}: is a second alpha of layer {}", describe(tensor, tensor.name), shown(key.layer));
    layer.alpha = number_of(tensor);
    return;
  }
  lora.spellings.insert(key.spelling);
  StoredTensor& half = key.part == Part::down ? layer.down : layer.up;
  check(!half.data, "{}: layer {} has tensor {} for the same", describe(tensor, tensor.name), shown(key.layer),
        shown(half.name));
  half = tensor;
}

/// An alpha without matrices is no layer.
void finish_layers(Lora& lora, const PeftAlphas& alphas) {
  for (auto entry = lora.layers.begin(); entry != lora.layers.end();) {
    auto& [name, layer] = *entry;
    if (!layer.down.data && !layer.up.data) {
      lora.unknown.insert(lora.unknown.end(), layer.stored.begin(), layer.stored.end());
      entry = lora.layers.erase(entry);
      continue;
    }
    finish_pair(layer, lora.path);
    alphas.apply(name, layer);
    ++entry;
  }
}

/// The names of a component's matrices, by their flattened names.
std::map<std::string, std::string> flattened_names(const Checkpoint& files) {
  std::map<std::string, std::string> names;
  for (const auto& [name, tensor] : files.tensors)
    if (name.ends_with(kWeightSuffix)) {
      const std::string layer = name.substr(0, name.size() - kWeightSuffix.size());
      names.emplace(flattened(layer), layer);
    }
  return names;
}

class Attaching {
 public:
  Attaching(Checkpoint& files, double scale) : files_(files), scale_(scale), flattened_(flattened_names(files)) {}

  void attach(const std::string& stored_name, const LoraLayer& layer) {
    const auto flat = layer.flat ? flattened_.find(stored_name) : flattened_.end();
    const std::string& name = flat == flattened_.end() ? stored_name : flat->second;
    const auto shape = files_.shape_of(name + std::string(kWeightSuffix));
    if (!shape || shape->rank() != 2) {
      unmatched_.insert(unmatched_.end(), layer.stored.begin(), layer.stored.end());
      return;
    }
    need(layer.down, name, {layer.rank(), (*shape)[1]}, *shape);
    need(layer.up, name, {(*shape)[0], layer.rank()}, *shape);
    check(matched_.insert(name).second, "{}: layer {} was there in another spelling",
          describe(layer.down, layer.down.name), name);
    files_.branches[name].push_back({layer.down, layer.up, static_cast<float>(scale_ * layer.factor())});
  }

  bool any_matched() const { return !matched_.empty(); }
  std::vector<std::string>& unmatched() { return unmatched_; }

 private:
  void need(const StoredTensor& half, const std::string& name, const Shape& needed, const Shape& weight) const {
    check(half.data.shape() == needed, "{}: has shape {}, but layer {} of {} has weights {}: {} is needed",
          describe(half, half.name), half.data.shape(), name, files_.path.string(), weight, needed);
  }

  Checkpoint& files_;
  double scale_;
  std::map<std::string, std::string> flattened_;
  std::set<std::string> matched_;
  std::vector<std::string> unmatched_;
};

}  // namespace

double LoraLayer::factor() const {
  if (!alpha) return 1;
  const auto r = static_cast<double>(rank());
  return *alpha / (root ? std::sqrt(r) : r);
}

std::string Lora::spelling() const { return fmt::format("{}", fmt::join(spellings, "+")); }

std::set<int64_t> Lora::ranks() const {
  std::set<int64_t> all;
  for (const auto& [name, layer] : layers) all.insert(layer.rank());
  return all;
}

std::set<double> Lora::alphas() const {
  std::set<double> all;
  for (const auto& [name, layer] : layers)
    if (layer.alpha) all.insert(*layer.alpha);
  return all;
}

std::string flattened(std::string_view layer) {
  std::string flat(layer);
  std::replace(flat.begin(), flat.end(), '.', '_');
  return flat;
}

Lora read_lora(const std::filesystem::path& path) {
  const SafetensorsFile file = read_safetensors(path);
  Lora lora = {.path = path};
  for (const auto& [name, tensor] : file.tensors) {
    if (const auto key = key_of(name)) {
      add_tensor(lora, *key, tensor);
    } else {
      lora.unknown.push_back(name);
    }
  }
  finish_layers(lora, read_peft_alphas(file, path));
  check(!file.tensors.empty(), "{}: holds no tensors; a LoRA is needed", path.string());
  check(!lora.layers.empty(),
        "{}: is no LoRA: none of its {} tensors (the first is {}) is named P.lora_A.weight or P.lora_down.weight",
        path.string(), file.tensors.size(), shown(file.tensors.begin()->first));
  return lora;
}

std::vector<std::string> attach_lora(Checkpoint& transformer, const Lora& lora, double scale, Unmatched unmatched) {
  Attaching attaching(transformer, scale);
  for (const auto& [name, layer] : lora.layers) attaching.attach(name, layer);
  std::vector<std::string>& left = attaching.unmatched();
  left.insert(left.end(), lora.unknown.begin(), lora.unknown.end());
  check(attaching.any_matched(), "{}: changes no layer of {}; its tensors are {}", lora.path.string(),
        transformer.path.string(), first_names(left));
  check(left.empty() || unmatched == Unmatched::leave_out,
        "{}: {} of its tensors change no layer of {} (lora-partial leaves them out): {}", lora.path.string(),
        left.size(), transformer.path.string(), first_names(left));
  return left;
}

}  // namespace inkstone
