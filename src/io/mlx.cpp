// Everything about mflux's folders: names, and matrices packed in affine groups as MLX's quantize().
#include <algorithm>
#include <charconv>

#include "io/scheme.h"

namespace inkstone {
namespace {

// Inputs that share a scale and an offset: what MLX's quantize() offers, and takes unless it is told otherwise.
constexpr std::array<int64_t, 3> kGroups = {32, 64, 128};
constexpr int64_t kUsualGroup = 64;
constexpr int64_t kWordBits = 32;

/// Matrices with as many inputs as outputs, of transformers and text encoders.
constexpr std::array<std::string_view, 2> kSquares = {"transformer_blocks.0.attn.to_q",
                                                      "model.layers.0.self_attn.q_proj"};

using Replacement = std::pair<std::string_view, std::string_view>;

constexpr std::array<Replacement, 7> kTransformerNames = {{
    {".img_mod_linear.", ".img_mod.1."},
    {".txt_mod_linear.", ".txt_mod.1."},
    {".attn.attn_to_out.0.", ".attn.to_out.0."},
    {".img_ff.mlp_in.", ".img_mlp.net.0.proj."},
    {".img_ff.mlp_out.", ".img_mlp.net.2."},
    {".txt_ff.mlp_in.", ".txt_mlp.net.0.proj."},
    {".txt_ff.mlp_out.", ".txt_mlp.net.2."},
}};

constexpr std::array<Replacement, 2> kTextEncoderNames = {{{"encoder.visual.", "visual."}, {"encoder.", "model."}}};

constexpr std::array<Replacement, 7> kVaeNames = {{
    {".conv3d.", "."},
    {".skip_conv.", ".conv_shortcut."},
    {".resample_conv.", ".resample.1."},
    {"norm.weight", "norm.gamma"},
    {"norm1.weight", "norm1.gamma"},
    {"norm2.weight", "norm2.gamma"},
    {"norm_out.weight", "norm_out.gamma"},
}};

constexpr std::string_view kDecoderStage = "decoder.up_block";  // its number follows without a dot
constexpr std::string_view kEncoderStage = "encoder.down_blocks.";
constexpr std::string_view kResnets = ".resnets.";

std::string replace_all_of(std::string name, std::span<const Replacement> replacements) {
  for (const auto& [from, to] : replacements) name = with_replaced(std::move(name), from, to);
  return name;
}

/// Takes a small decimal number off the front of `text`; negative if there is none.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + std::min<size_t>(text.size(), 4), number);
  if (error != std::errc()) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

/// A name below one of the VAE encoder's stages: "encoder.down_blocks.STAGE.resnets.RESNET.rest".
struct StageName {
  int stage = -1;
  int resnet = -1;        ///< negative: not a resnet
  std::string_view rest;  ///< what follows
};

StageName stage_name(std::string_view name) {
  StageName n;
  if (!name.starts_with(kEncoderStage)) return n;
  name.remove_prefix(kEncoderStage.size());
  n.stage = take_number(name);
  if (name.starts_with(kResnets)) {
    name.remove_prefix(kResnets.size());
    n.resnet = take_number(name);
  }
  n.rest = name;
  return n;
}

/// diffusers counts the encoder's resnets and down-samplers in one list.
std::string flat_encoder_name(const std::string& name, int resnets_per_stage) {
  constexpr std::string_view kDownsampler = ".downsamplers.0.";
  const StageName n = stage_name(name);
  const int first = n.stage * (resnets_per_stage + 1);
  if (n.stage >= 0 && n.resnet >= 0) return fmt::format("{}{}{}", kEncoderStage, first + n.resnet, n.rest);
  if (n.stage >= 0 && n.rest.starts_with(kDownsampler))
    return fmt::format("{}{}.{}", kEncoderStage, first + resnets_per_stage, n.rest.substr(kDownsampler.size()));
  return name;
}

std::string vae_name(std::string_view stored, int resnets_per_stage) {
  std::string name = replace_all_of(std::string(stored), kVaeNames);
  if (name.starts_with(kDecoderStage) && !name.starts_with("decoder.up_blocks."))
    name.insert(kDecoderStage.size(), "s.");
  return flat_encoder_name(name, resnets_per_stage);
}

Renaming renaming(Component component, const TensorMap& stored) {
  switch (component) {
    case Component::transformer:
      return [](std::string_view name) { return replace_all_of(std::string(name), kTransformerNames); };
    case Component::text_encoder:
      return [canonical = diffusers_scheme().renaming(component, stored)](std::string_view name) {
        for (const auto& [from, to] : kTextEncoderNames)
          if (name.starts_with(from)) return canonical(std::string(to) + std::string(name.substr(from.size())));
        return canonical(name);
      };
    case Component::vae:
      break;
  }
  int resnets = 0;
  for (const auto& item : stored) resnets = std::max(resnets, stage_name(item.first).resnet + 1);
  return [resnets](std::string_view name) { return vae_name(name, resnets); };
}

/// Names that only these files have.
bool is_own_name(Component component, std::string_view name) {
  const auto contains = [&](const Replacement& r) { return name.find(r.first) != std::string_view::npos; };
  if (name.ends_with(".scales")) return true;
  switch (component) {
    case Component::transformer:
      return std::any_of(kTransformerNames.begin(), kTransformerNames.end(), contains);
    case Component::text_encoder:
      return name.starts_with("encoder.");
    case Component::vae:
      return std::any_of(kVaeNames.begin(), kVaeNames.begin() + 3, contains);
  }
  return false;
}

bool recognises(Component component, const TensorMap& stored) {
  return std::any_of(stored.begin(), stored.end(),
                     [&](const auto& item) { return is_own_name(component, item.first); });
}

/// Codes of 4 bits in groups of 64 have the shapes of codes of 8 bits in groups of 32. No file tells which they are,
/// but all groups of a component have one size, and a matrix whose inputs are known tells it.
int64_t group_size(const TensorMap& tensors) {
  for (const std::string_view layer : kSquares) {
    const StoredTensor* codes = find(tensors, std::string(layer) + ".weight");
    const StoredTensor* scales = find(tensors, std::string(layer) + ".scales");
    if (codes == nullptr || scales == nullptr) continue;
    if (codes->data.shape().rank() != 2 || scales->data.shape().rank() != 2) continue;
    for (const int64_t group : kGroups)
      if (codes->data.dim(0) == group * scales->data.dim(1)) return group;
  }
  return kUsualGroup;
}

void check_affine(const Tensor& codes, const Tensor& scales, const Tensor& offsets, const std::string& where) {
  check(codes.dtype() == DType::u32 && codes.shape().rank() == 2 && codes.count() > 0,
        "{}: packed codes must be U32 with two axes, found {} {}", where, name_of(codes.dtype()), codes.shape().text());
  check(scales.shape() == offsets.shape() && scales.shape().rank() == 2 && scales.dim(0) == codes.dim(0) &&
            scales.dim(1) > 0,
        "{}: codes {} need scales and biases of equal shapes [{}, in / group], found {} and {}", where,
        codes.shape().text(), codes.dim(0), scales.shape().text(), offsets.shape().text());
}

std::optional<PackedWeight> packed(const TensorMap& tensors, const std::string& layer) {
  const std::array<std::string, 3> names = {layer + ".weight", layer + ".scales", layer + ".biases"};
  const StoredTensor* codes = find(tensors, names[0]);
  const StoredTensor* scales = find(tensors, names[1]);
  const StoredTensor* offsets = find(tensors, names[2]);
  if (codes == nullptr || (scales == nullptr && offsets == nullptr && codes->data.dtype() != DType::u32)) return {};
  const std::string where = describe(*codes, names[0]);
  check(scales != nullptr, "{}: is packed, but {} is missing", where, names[1]);
  check(offsets != nullptr || scales->data.dtype() != DType::u8,
        "{}: has U8 scales and no biases, as MLX's modes mxfp4, mxfp8 and nvfp4, which this program does not read; "
        "affine groups of 4 and 8 bits work",
        where);
  check(offsets != nullptr, "{}: is packed, but {} is missing", where, names[2]);
  check_scale_type(*scales, names[1]);
  check_scale_type(*offsets, names[2]);
  check_affine(codes->data, scales->data, offsets->data, where);

  const int64_t group = group_size(tensors);
  const int64_t in = scales->data.dim(1) * group;
  const int64_t row_bits = codes->data.dim(1) * kWordBits;  // the file's size bounds it
  check(row_bits == 4 * in || row_bits == 8 * in,
        "{}: {} bits per weight in groups of {} (codes {}, scales {}); 4 and 8 in groups of {} work", where,
        static_cast<double>(row_bits) / static_cast<double>(in), group, codes->data.shape().text(),
        scales->data.shape().text(), fmt::join(kGroups, ", "));
  Weight weight = {.out = codes->data.dim(0), .in = in};
  weight.format = row_bits == 4 * in ? WeightFormat::affine4 : WeightFormat::affine8;
  weight.data = codes->data;
  weight.scales = scales->data;
  weight.offsets = offsets->data;
  weight.group = group;
  return PackedWeight{weight, {names.begin(), names.end()}};
}

}  // namespace

const Scheme& mlx_scheme() {
  static constexpr Scheme scheme = {
      .name = "mlx", .channels_last = true, .recognises = recognises, .renaming = renaming, .packed = packed};
  return scheme;
}

}  // namespace inkstone
