// The files of `inkstone quantize`: X.weight with codes, X.scales and X.offsets (docs/formats.md).
#include <algorithm>

#include "io/scheme.h"

namespace inkstone {
namespace {

constexpr std::string_view kOffsets = ".offsets";  // only these files have such a name

Renaming renaming(Component component, const TensorMap& stored) {
  return diffusers_scheme().renaming(component, stored);
}

bool recognises(Component /*component*/, const TensorMap& stored) {
  return std::any_of(stored.begin(), stored.end(), [](const auto& item) { return item.first.ends_with(kOffsets); });
}

/// The element type of the codes tells the format.
WeightFormat format_of(const Tensor& codes, const std::string& where) {
  check(codes.shape().rank() == 2 && codes.count() > 0 && (codes.dtype() == DType::u32 || codes.dtype() == DType::u8),
        "{}: codes must be U32 (4 bits) or U8 (8 bits) with two axes, found {} {}", where, name_of(codes.dtype()),
        codes.shape());
  return codes.dtype() == DType::u32 ? WeightFormat::affine4 : WeightFormat::affine8;
}

std::optional<PackedWeight> packed(const TensorMap& tensors, const std::string& layer) {
  const std::array<std::string, 3> names = {layer + ".weight", layer + ".scales", layer + std::string(kOffsets)};
  const StoredTensor* codes = find(tensors, names[0]);
  const StoredTensor* scales = find(tensors, names[1]);
  const StoredTensor* offsets = find(tensors, names[2]);
  if (codes == nullptr) return std::nullopt;
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
