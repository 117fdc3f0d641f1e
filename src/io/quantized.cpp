// The files of `inkstone quantize`: X.weight with codes, X.scales and X.offsets, or mixed codes in the order of the
// cpu's kernels with X.scales, X.factors and X.order (docs/formats.md).
#include <algorithm>

#include "io/json.h"
#include "io/scheme.h"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

constexpr std::string_view kOffsets = ".offsets";  // only these files have such a name, or kMixedFactors
constexpr std::string_view kOrder = ".order";

Renaming renaming(Component component, const TensorMap& stored) {
  return diffusers_scheme().renaming(component, stored);
}

bool recognises(Component /*component*/, const TensorMap& stored) {
  return std::any_of(stored.begin(), stored.end(), [](const auto& item) {
    return item.first.ends_with(kOffsets) || item.first.ends_with(kMixedFactors);
  });
}

/// The element type of the codes tells the format.
WeightFormat format_of(const Tensor& codes, const std::string& where) {
  check(codes.shape().rank() == 2 && codes.count() > 0 && (codes.dtype() == DType::u32 || codes.dtype() == DType::u8),
        "{}: codes must be U32 (4 bits) or U8 (8 bits) with two axes, found {} {}", where, name_of(codes.dtype()),
        codes.shape());
  return codes.dtype() == DType::u32 ? WeightFormat::affine4 : WeightFormat::affine8;
}

const StoredTensor& needed(const TensorMap& tensors, const std::string& name, const std::string& where) {
  const StoredTensor* found = find(tensors, name);
  if (found == nullptr) fail("{}: is packed, but {} is missing", where, name);
  return *found;
}

void check_part(const StoredTensor& part, const std::string& name, DType type, const Shape& shape) {
  check(part.data.dtype() == type && part.data.shape() == shape, "{}: is {} {}; {} {} is needed", describe(part, name),
        name_of(part.data.dtype()), part.data.shape(), name_of(type), shape);
}

/// A matrix in the order of ops/mixed_codes.h.
PackedWeight mixed(const TensorMap& tensors, const std::string& layer, const StoredTensor& codes) {
  const std::array<std::string, 4> names = {layer + ".weight", layer + ".scales", layer + std::string(kMixedFactors),
                                            layer + std::string(kOrder)};
  const std::string where = describe(codes, names[0]);
  const Shape& shape = codes.data.shape();
  check(codes.data.dtype() == DType::u8 && shape.rank() == 2 && MixedOrder::takes(shape[0], shape[1]),
        "{}: mixed codes must be U8 (outputs, inputs), outputs in {}s and inputs in {}s, found {} {}", where,
        kMixedLanes, kMixedStep, name_of(codes.data.dtype()), shape);
  const StoredTensor& scales = needed(tensors, names[1], where);
  const StoredTensor& factors = needed(tensors, names[2], where);
  const StoredTensor& order = needed(tensors, names[3], where);
  check_part(scales, names[1], DType::f32, {MixedOrder::groups_in(shape[1]), shape[0]});
  check_part(factors, names[2], DType::f32, {shape[1]});
  check_part(order, names[3], DType::u8, {static_cast<int64_t>(kMixedDescription.size())});
  const std::string text(order.data.data<const char>(), order.data.bytes());
  check(text == kMixedDescription, "{}: lies as {} says; only {} is known", where, shown(text),
        shown(std::string(kMixedDescription)));
  const Weight weight = {.format = WeightFormat::affine8,
                         .out = shape[0],
                         .in = shape[1],
                         .data = codes.data,
                         .scales = scales.data,
                         .group = kMixedGroup,
                         .factors = factors.data};
  return {weight, {names.begin(), names.end()}};
}

std::optional<PackedWeight> packed(const TensorMap& tensors, const std::string& layer) {
  const std::array<std::string, 3> names = {layer + ".weight", layer + ".scales", layer + std::string(kOffsets)};
  const StoredTensor* codes = find(tensors, names[0]);
  const StoredTensor* scales = find(tensors, names[1]);
  const StoredTensor* offsets = find(tensors, names[2]);
  if (codes == nullptr) return std::nullopt;
  if (find(tensors, layer + std::string(kMixedFactors)) != nullptr) return mixed(tensors, layer, *codes);
  if (scales == nullptr && offsets == nullptr && dense_format(codes->data.dtype()))
    return comfy_scheme().packed(tensors, layer);  // dense or fp8
  const std::string where = describe(*codes, names[0]);
  check(scales != nullptr, "{}: is packed, but {} is missing", where, names[1]);
  check(offsets != nullptr, "{}: is packed, but {} is missing", where, names[2]);
  check_scale_type(*scales, names[1]);
  check_scale_type(*offsets, names[2]);

  Weight weight = {.format = format_of(codes->data, where), .out = codes->data.dim(0)};
  weight.data = codes->data;
  weight.scales = scales->data;
  weight.offsets = offsets->data;
  const bool words = weight.format == WeightFormat::affine4;
  weight.in = codes->data.dim(1) * (words ? layout_of(weight.format).numbers : 1);  // the file's size bounds it
  const Shape& shape = weight.scales.shape();
  const bool fits = shape == weight.offsets.shape() && shape.rank() == 2 && shape[0] == weight.out && shape[1] > 0 &&
                    weight.in % shape[1] == 0 && weight.in / shape[1] % layout_of(WeightFormat::affine4).numbers == 0;
  check(fits, "{}: codes for {} x {} numbers need scales and offsets of equal shapes [{}, in / group], found {} and {}",
        where, weight.out, weight.in, weight.out, shape, weight.offsets.shape());
  weight.group = weight.in / shape[1];
  return PackedWeight{weight, {names.begin(), names.end()}};
}

}  // namespace

const Scheme& quantized_scheme() {
  static constexpr Scheme scheme = {
      .name = "inkstone", .recognises = recognises, .renaming = renaming, .packed = packed};
  return scheme;
}

}  // namespace inkstone
