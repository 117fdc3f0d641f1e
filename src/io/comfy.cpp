// Everything about ComfyUI's single files: prefixes, Wan's names of the VAE, scaled fp8 (comfy/ops.py there).
#include "io/comfy.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "io/json.h"
#include "io/scheme.h"

namespace inkstone {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

// Of scaled layers.
constexpr std::string_view kLegacyMarker = "scaled_fp8";
constexpr std::string_view kLegacyScale = ".scale_weight";
constexpr std::string_view kScale = ".weight_scale";
constexpr std::string_view kFormat = ".comfy_quant";
constexpr std::array<std::string_view, 2> kInputScales = {".scale_input",
                                                          ".input_scale"};  // of activations: not needed

constexpr const char* kMetadata = "_quantization_metadata";
constexpr std::string_view kLogitScale = ".logit_scale";  // of a contrastive loss, in saved text encoders; not needed

constexpr std::array<std::string_view, 3> kTransformerPrefixes = {"model.diffusion_model.", "diffusion_model.",
                                                                  "transformer."};
constexpr std::array<std::string_view, 1> kTextEncoderPrefixes = {"text_encoders."};
constexpr std::array<std::string_view, 2> kVaePrefixes = {"vae.", "first_stage_model."};

std::span<const std::string_view> prefixes_of(Component component) {
  switch (component) {
    case Component::transformer:
      return kTransformerPrefixes;
    case Component::text_encoder:
      return kTextEncoderPrefixes;
    case Component::vae:
      return kVaePrefixes;
  }
  return {};
}

/// The prefix of a component that a name begins with; empty if there is none.
std::string_view prefix_of(Component component, std::string_view name) {
  for (const std::string_view prefix : prefixes_of(component))
    if (name.starts_with(prefix)) return prefix;
  return {};
}

bool has_prefix(Component component, const TensorMap& stored) {
  return std::any_of(stored.begin(), stored.end(),
                     [&](const auto& item) { return !prefix_of(component, item.first).empty(); });
}

bool is_of_another(Component component, std::string_view name) {
  for (const Component other : {Component::transformer, Component::text_encoder, Component::vae})
    if (other != component && !prefix_of(other, name).empty()) return true;
  return false;
}

bool is_marker(std::string_view name) {
  return name == kLegacyMarker ||
         (name.ends_with(kLegacyMarker) && name[name.size() - kLegacyMarker.size() - 1] == '.');
}

bool is_scaled(std::string_view name) {
  return is_marker(name) || name.ends_with(kLegacyScale) || name.ends_with(kScale) || name.ends_with(kFormat);
}

// ---- Wan's names

constexpr std::array<Replacement, 2> kWanTop = {{{"conv1.", "quant_conv."}, {"conv2.", "post_quant_conv."}}};

constexpr std::array<Replacement, 6> kWanHalf = {{{"conv1.", "conv_in."},
                                                  {"middle.0.", "mid_block.resnets.0."},
                                                  {"middle.1.", "mid_block.attentions.0."},
                                                  {"middle.2.", "mid_block.resnets.1."},
                                                  {"head.0.gamma", "norm_out.gamma"},
                                                  {"head.2.", "conv_out."}}};

constexpr std::array<Replacement, 5> kWanResidual = {{{".residual.0.gamma", ".norm1.gamma"},
                                                      {".residual.2.", ".conv1."},
                                                      {".residual.3.gamma", ".norm2.gamma"},
                                                      {".residual.6.", ".conv2."},
                                                      {".shortcut.", ".conv_shortcut."}}};

constexpr std::array<std::string_view, 2> kWanHalves = {"encoder.", "decoder."};
constexpr std::string_view kWanDown = "encoder.downsamples.";
constexpr std::string_view kWanUp = "decoder.upsamples.";
constexpr std::string_view kWanResample = ".resample.";
constexpr std::string_view kWanTimeConvolution = ".time_conv.";

std::string with_prefix_replaced(std::string name, std::span<const Replacement> replacements) {
  for (const auto& [from, to] : replacements)
    if (name.starts_with(from)) return name.replace(0, from.size(), to);
  return name;
}

/// The number in front and what follows it; negative if there is none.
std::pair<int, std::string_view> split_number(std::string_view text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return {-1, text};
  return {number, text.substr(static_cast<size_t>(end - text.data()))};
}

bool is_resampler(std::string_view rest) {
  return rest.starts_with(kWanResample) || rest.starts_with(kWanTimeConvolution);
}

/// Modules of one of the decoder's stages, which Wan counts in one list: residual blocks and the up-sampler.
int modules_of_stage(const TensorMap& names) {
  constexpr int kPublished = 4;
  int first = -1;
  for (const auto& item : names) {
    const size_t at = item.first.find(kWanUp);
    if (at == std::string::npos) continue;
    const auto [number, rest] = split_number(std::string_view(item.first).substr(at + kWanUp.size()));
    if (number >= 0 && is_resampler(rest) && (first < 0 || number < first)) first = number;
  }
  return first < 0 ? kPublished : first + 1;
}

std::string wan_name(std::string name, int stage_modules) {
  for (const auto& [from, to] : kWanResidual) name = with_replaced(std::move(name), from, to);
  if (name.starts_with(kWanDown)) return "encoder.down_blocks." + name.substr(kWanDown.size());
  if (name.starts_with(kWanUp)) {
    const auto [number, rest] = split_number(std::string_view(name).substr(kWanUp.size()));
    if (number < 0) return name;
    const int stage = number / stage_modules;
    if (is_resampler(rest)) return fmt::format("decoder.up_blocks.{}.upsamplers.0{}", stage, rest);
    return fmt::format("decoder.up_blocks.{}.resnets.{}{}", stage, number % stage_modules, rest);
  }
  for (const std::string_view half : kWanHalves)
    if (name.starts_with(half)) return std::string(half) + with_prefix_replaced(name.substr(half.size()), kWanHalf);
  return with_prefix_replaced(std::move(name), kWanTop);
}

bool is_wan_name(std::string_view name) {
  name.remove_prefix(prefix_of(Component::vae, name).size());
  return name.starts_with("encoder.conv1.") || name.starts_with("decoder.conv1.") || name.starts_with(kWanDown) ||
         name.starts_with(kWanUp);
}

bool has_wan_names(const TensorMap& stored) {
  return std::any_of(stored.begin(), stored.end(), [](const auto& item) { return is_wan_name(item.first); });
}

// ---- the scheme

void check_markers(const TensorMap& stored) {
  for (const auto& [name, tensor] : stored) {
    const DType type = tensor.data.dtype();
    check(!is_marker(name) || is_fp8(type) || type == DType::f32,
          "{}: marks weights as scaled {}; F8_E4M3, F8_E5M2 and F32 work", describe(tensor, name), name_of(type));
  }
}

Renaming renaming(Component component, const TensorMap& stored) {
  check_markers(stored);
  const bool prefixed = has_prefix(component, stored);
  const bool wan = component == Component::vae && has_wan_names(stored);
  const Renaming plain = diffusers_scheme().renaming(component, stored);
  return [=, modules = modules_of_stage(stored)](std::string_view name) -> std::string {
    const bool unused = is_marker(name) || name.ends_with(kLogitScale);
    if (unused || (prefixed && is_of_another(component, name))) return "";
    // The text encoder's own prefixes are the business of the plain names.
    if (component != Component::text_encoder) name.remove_prefix(prefix_of(component, name).size());
    const std::string canonical = plain(name);
    return wan ? wan_name(canonical, modules) : canonical;
  };
}

bool recognises(Component component, const TensorMap& stored) {
  return has_prefix(component, stored) || (component == Component::vae && has_wan_names(stored)) ||
         std::any_of(stored.begin(), stored.end(), [](const auto& item) { return is_scaled(item.first); });
}

/// The fp8 type that the JSON beside a layer names.
DType type_in_format(const StoredTensor& format, const std::string& name) {
  const Tensor& data = format.data;
  const std::string where = describe(format, name);
  check(data.dtype() == DType::u8 && data.shape().rank() == 1, "{}: is {} {}, a text of U8 is needed", where,
        name_of(data.dtype()), data.shape().text());
  const std::string_view text(data.data<const char>(), static_cast<size_t>(data.count()));
  const JsonFile json(where, parse_json(text, where));
  const std::string type = json.text("format");
  if (type == "float8_e4m3fn") return DType::f8_e4m3;
  if (type == "float8_e5m2") return DType::f8_e5m2;
  json.refuse("format", "\"float8_e4m3fn\" or \"float8_e5m2\" (this program does not read that quantization)");
}

/// One scale per output, from one for all or one for each.
Tensor scales_of(const StoredTensor& stored, const std::string& name, int64_t outputs) {
  check_scale_type(stored, name);
  const Tensor& scales = stored.data;
  check(scales.count() == 1 || scales.count() == outputs, "{}: has shape {}; one scale, or one for each of {} outputs",
        describe(stored, name), scales.shape().text(), outputs);
  if (scales.count() == outputs) return to_f32(scales).reshape({outputs, 1});
  const Tensor spread = host_tensor({outputs, 1}, DType::f32);
  std::ranges::fill(spread.span<float>(), to_f32(scales).data<const float>()[0]);
  return spread;
}

/// The tensors of a scaled layer; null where there is none.
struct ScaledLayer {
  ScaledLayer(const TensorMap& tensors, const std::string& layer) : weight_name(layer + ".weight") {
    parts.push_back(weight_name);
    weight = find(tensors, weight_name);
    legacy = part(tensors, layer, kLegacyScale);
    scale = part(tensors, layer, kScale);
    format = part(tensors, layer, kFormat);
    for (const std::string_view suffix : kInputScales) part(tensors, layer, suffix);
  }

  const StoredTensor* part(const TensorMap& tensors, const std::string& layer, std::string_view suffix) {
    const std::string name = layer + std::string(suffix);
    const StoredTensor* tensor = find(tensors, name);
    if (tensor != nullptr) parts.push_back(name);
    return tensor;
  }

  std::string weight_name;
  std::vector<std::string> parts;
  const StoredTensor *weight, *legacy, *scale, *format;
};

void check_complete(const ScaledLayer& l, const std::string& layer) {
  const std::string where = describe(*l.weight, l.weight_name);
  const DType type = l.weight->data.dtype();
  // First, so that other quantizations are refused by their names.
  const DType told = l.format != nullptr ? type_in_format(*l.format, layer + std::string(kFormat)) : type;
  check(l.format == nullptr || l.scale != nullptr || l.legacy != nullptr, "{}: is scaled, but {}{} is missing", where,
        layer, kScale);
  check(l.scale == nullptr || l.legacy == nullptr, "{}: has both {}{} and {}{}, one is needed", where, layer, kScale,
        layer, kLegacyScale);
  check(is_fp8(type), "{}: is scaled and {}; F8_E4M3 and F8_E5M2 work", where, name_of(type));
  check(type == told, "{}: is {}, but {}{} says {}", where, name_of(type), layer, kFormat, name_of(told));
  check(l.weight->data.shape().rank() == 2 && l.weight->data.count() > 0,
        "{}: is scaled and has shape {}; two axes are needed", where, l.weight->data.shape().text());
}

std::optional<PackedWeight> packed(const TensorMap& tensors, const std::string& layer) {
  const ScaledLayer l(tensors, layer);
  // A legacy layer without a scale is not scaled, but may have one for its input.
  const bool unscaled_fp8 = l.weight != nullptr && is_fp8(l.weight->data.dtype()) && l.parts.size() > 1;
  const bool scaled = l.legacy != nullptr || l.scale != nullptr || l.format != nullptr;
  if (l.weight == nullptr || !(scaled || unscaled_fp8)) return std::nullopt;
  check_complete(l, layer);
  Weight weight = dense_weight(l.weight->data);
  if (scaled) {
    weight.scales = l.scale != nullptr ? scales_of(*l.scale, layer + std::string(kScale), weight.out)
                                       : scales_of(*l.legacy, layer + std::string(kLegacyScale), weight.out);
    weight.group = weight.in;
  }
  return PackedWeight{weight, l.parts};
}

Tensor text_tensor(const std::string& text) {
  Tensor t = host_tensor({static_cast<int64_t>(text.size())}, DType::u8);
  std::memcpy(t.data<char>(), text.data(), text.size());
  return t;
}

}  // namespace

void add_quantization_metadata(SafetensorsFile& file, const std::filesystem::path& path) {
  const auto found = file.metadata.find(kMetadata);
  if (found == file.metadata.end()) return;
  const std::filesystem::path where = path.string() + ": __metadata__." + kMetadata;
  const JsonFile layers = JsonFile(where, parse_json(found->second, where)).child("layers");
  for (const auto& [layer, format] : layers.object().items()) {
    const std::string name = layer + std::string(kFormat);
    file.tensors.try_emplace(name, StoredTensor{text_tensor(layers.child(layer).object().dump()), path, name});
  }
}

const Scheme& comfy_scheme() {
  static constexpr Scheme scheme = {.name = "comfy", .recognises = recognises, .renaming = renaming, .packed = packed};
  return scheme;
}

}  // namespace inkstone
