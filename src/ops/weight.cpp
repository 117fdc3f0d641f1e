#include "ops/weight.h"

#include <algorithm>
#include <array>

#include "ops/expand.inl"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

constexpr int64_t kGroupsAtOnce = 64;
constexpr int64_t kFewNumbers = 16;

/// "BF16" is held in "bf16".
constexpr bool is_name_of(std::string_view type, std::string_view format) {
  constexpr char kToLower = 'a' - 'A';
  return std::ranges::equal(type, format,
                            [](char t, char f) { return ('A' <= t && t <= 'Z' ? t + kToLower : t) == f; });
}

/// For each DType the format of matrices of such numbers.
constexpr auto kDenseFormats = [] {
  std::array<std::optional<WeightFormat>, std::size(kTypes)> formats = {};
  for (size_t type = 0; type < std::size(kTypes); ++type)
    for (size_t f = 0; f < std::size(kBlockLayouts); ++f)
      if (kBlockLayouts[f].numbers == 1 && is_name_of(kTypes[type].name, kBlockLayouts[f].name))
        formats[type] = static_cast<WeightFormat>(f);
  return formats;
}();

/// `count` numbers of a tensor of scales or offsets, from number `begin`.
void widen(const Tensor& from, Expand (*expander)(WeightFormat), int64_t begin, int64_t count, float* out) {
  if (from.dtype() == DType::bf16 && count < kFewNumbers) {  // too few for vectors and their rests
    const auto* numbers = from.data<const bf16_t>() + begin;
    for (int64_t i = 0; i < count; ++i) out[i] = to_float(numbers[i]);
    return;
  }
  const auto format = dense_format(from.dtype());
  check(format.has_value(), "scales of {} where F32, F16 or BF16 is needed", name_of(from.dtype()));
  const uint8_t* numbers = from.data<const uint8_t>() + begin * layout_of(*format).bytes;
  expander (*format)({.blocks = numbers}, count, out);
}

size_t held_bytes(const Tensor& t) { return t ? t.bytes() : 0; }

}  // namespace

std::optional<WeightFormat> dense_format(DType type) { return kDenseFormats[static_cast<size_t>(type)]; }

std::string dense_types() {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < std::size(kTypes); ++i)
    if (kDenseFormats[i]) names.push_back(kTypes[i].name);
  return fmt::format("{}", fmt::join(names, ", "));
}

Weight dense_weight(const Tensor& matrix) {
  check(matrix.shape().rank() == 2, "a weight of shape {}: a matrix (out, in) is needed", matrix.shape());
  const auto format = dense_format(matrix.dtype());
  check(format.has_value(), "a weight of {}, one of {} is needed", name_of(matrix.dtype()), dense_types());
  return {.format = *format, .out = matrix.dim(0), .in = matrix.dim(1), .data = matrix};
}

size_t bytes_of(const Weight& weight) {
  return held_bytes(weight.data) + held_bytes(weight.scales) + held_bytes(weight.offsets) + held_bytes(weight.factors);
}

int64_t input_unit(const Weight& weight) {
  if (weight.factors) return kMixedGroup;
  const bool one_scale = weight.group == weight.in;  // for a whole row
  return weight.scales && !one_scale ? weight.group : layout_of(weight.format).numbers;
}

PackedRow packed_row(const Weight& weight, Expand (*expander)(WeightFormat), int64_t row, int64_t begin, int64_t groups,
                     float* room) {
  const BlockLayout& layout = layout_of(weight.format);
  const int64_t input = row * weight.in + begin;
  PackedRow packed = {.blocks = weight.data.data<const uint8_t>() + input / layout.numbers * layout.bytes,
                      .group = weight.group};
  if (weight.scales) {
    const int64_t first = row * weight.in / weight.group + begin / weight.group;
    widen(weight.scales, expander, first, groups, room);
    packed.scales = room;
    if (weight.offsets) widen(weight.offsets, expander, first, groups, room + groups);
    if (weight.offsets) packed.offsets = room + groups;
  }
  return packed;
}

void expand_row(const Weight& weight, Expand (*expander)(WeightFormat), int64_t row, int64_t begin, int64_t end,
                float* out) {
  if (weight.factors) return expand_mixed_row(weight, row, begin, end, out);
  const Expand expand = expander(weight.format);
  float room[2 * kGroupsAtOnce];
  for (int64_t at = begin; at < end;) {
    const int64_t groups = weight.scales ? std::clamp<int64_t>((end - at) / weight.group, 1, kGroupsAtOnce) : 0;
    const int64_t count = weight.scales ? std::min(groups * weight.group, end - at) : end - at;
    expand(packed_row(weight, expander, row, at, groups, room), count, out);
    out += count;
    at += count;
  }
}

void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  for (int64_t row = begin; row < end; ++row, out += weight.in)
    expand_row(weight, plain_expander, row, 0, weight.in, out);
}

int64_t Linear::out() const {
  int64_t sum = 0;
  for (const Slab& slab : slabs) sum += slab.weight.out;
  return sum;
}

}  // namespace inkstone
