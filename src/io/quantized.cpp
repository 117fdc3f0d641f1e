// The files of `inkstone quantize`: X.weight with codes, X.scales and X.offsets, or mixed codes in the order of the
// cpu's kernels with X.scales, X.factors, X.order and, of 4 bits, X.steps (docs/formats.md).
#include <algorithm>

#include "io/json.h"
#include "io/scheme.h"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

constexpr std::string_view kOffsets = ".offsets";  // only these files have such a name, or kMixedFactors
constexpr std::string_view kOrder = ".order";
constexpr std::string_view kSteps = ".steps";

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

/// Whether a matrix in the order of ops/mixed_codes.h has 4 bits.
bool is_small(const StoredTensor& order, const std::string& name, const std::string& where) {
  check_part(order, name, DType::u8, {static_cast<int64_t>(kMixedDescription.size())});
  const std::string text(order.data.data<const char>(), order.data.bytes());
  check(text == kMixedDescription || text == kMixedSmallDescription, "{}: lies as {} says; only {} and {} are known",
        where, shown(text), shown(std::string(kMixedDescription)), shown(std::string(kMixedSmallDescription)));
  return text == kMixedSmallDescription;
}

/// (out, in) of such a matrix.
Shape mixed_shape(const Tensor& codes, bool small, const std::string& where) {
  const int64_t numbers = small ? 2 : 1;  // of a byte
  const Shape& shape = codes.shape();
  const bool is_matrix = codes.dtype() == DType::u8 && shape.rank() == 2;
  const Shape all = is_matrix ? Shape{shape[0], shape[1] * numbers} : Shape();
  check(is_matrix && (small ? MixedOrder::takes_small(all[0], all[1]) : MixedOrder::takes(all[0], all[1])),
        "{}: mixed codes must be U8 (outputs, inputs{}), outputs in {}s and inputs in {}s, found {} {}", where,
        small ? " / 2" : "", kMixedLanes, small ? kMixedPair : kMixedStep, name_of(codes.dtype()), shape);
  return all;
}

/// A matrix in the order of ops/mixed_codes.h.
PackedWeight mixed(const TensorMap& tensors, const std::string& layer, const StoredTensor& codes) {
  std::vector<std::string> names = {layer + ".weight", layer + ".scales", layer + std::string(kMixedFactors),
                                    layer + std::string(kOrder)};
  const std::string where = describe(codes, names[0]);
  const StoredTensor& scales = needed(tensors, names[1], where);
  const StoredTensor& factors = needed(tensors, names[2], where);
  const bool small = is_small(needed(tensors, names[3], where), names[3], where);
  const Shape shape = mixed_shape(codes.data, small, where);
  check_part(scales, names[1], DType::f32, {MixedOrder::groups_in(shape[1]), shape[0]});
  check_part(factors, names[2], DType::f32, {shape[1]});
  Weight weight = {.format = small ? WeightFormat::affine4 : WeightFormat::affine8,
                   .out = shape[0],
                   .in = shape[1],
                   .data = codes.data,
                   .scales = scales.data,
                   .group = kMixedGroup,
                   .factors = factors.data};
  if (small) {
    names.push_back(layer + std::string(kSteps));
    const StoredTensor& steps = needed(tensors, names.back(), where);
    check_part(steps, names.back(), DType::u8, {2 * MixedOrder::small_groups_in(shape[1]), shape[0]});
    weight.offsets = steps.data;
  }
  return {weight, names};
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
