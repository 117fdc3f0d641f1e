#include "cpu/weight_panel.h"

#include <algorithm>
#include <cstring>

namespace inkstone {
namespace {

constexpr int64_t kWordBits = 32;
constexpr int64_t kGroupsAtOnce = 64;

/// `count` numbers of any float type.
void widen(const VectorOps& vector, const Tensor& from, int64_t begin, int64_t count, float* out) {
  switch (from.dtype()) {
    case DType::f32:
      std::memcpy(out, from.data<const float>() + begin, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::f16:
      return vector.expand_f16(from.data<const uint16_t>() + begin, count, out);
    case DType::bf16:
      return vector.expand_bf16(from.data<const uint16_t>() + begin, count, out);
    default:
      fail("weights of {} where F32, F16 or BF16 is needed", name_of(from.dtype()));
  }
}

void expand_affine_row(const VectorOps& vector, const Weight& w, int64_t row, int64_t begin, int64_t end, float* out) {
  const int64_t groups_of_row = w.in / w.group;
  const auto expand = w.bits == 4 ? vector.expand_affine4 : vector.expand_affine8;
  float scales[kGroupsAtOnce], offsets[kGroupsAtOnce];
  for (int64_t group = begin / w.group; group < end / w.group; group += kGroupsAtOnce) {
    const int64_t groups = std::min(kGroupsAtOnce, end / w.group - group);
    widen(vector, w.scales, row * groups_of_row + group, groups, scales);
    widen(vector, w.offsets, row * groups_of_row + group, groups, offsets);
    const uint32_t* words = w.data.data<const uint32_t>() + (row * w.in + group * w.group) * w.bits / kWordBits;
    expand(words, scales, offsets, w.group, groups * w.group, out);
    out += groups * w.group;
  }
}

}  // namespace

int64_t input_unit(const Weight& weight) { return weight.format == WeightFormat::affine ? weight.group : 1; }

void expand_row(const VectorOps& vector, const Weight& weight, int64_t row, int64_t begin, int64_t end, float* out) {
  if (weight.format == WeightFormat::affine) return expand_affine_row(vector, weight, row, begin, end, out);
  widen(vector, weight.data, row * weight.in + begin, end - begin, out);
}

void pack_panel(const VectorOps& vector, const Weight& weight, const PanelRange& range, float* expanded, float* panel) {
  const int64_t width = strip_width(vector);
  const int64_t depth = range.depth();
  for (int64_t i = 0; i < range.outputs(); i += vector.lanes) {
    const int64_t row = range.out_begin + i;
    const int64_t outputs = std::min(vector.lanes, range.out_end - row);
    const int64_t strip = i / width * width;  // its first output
    const int64_t rest = range.outputs() - strip;
    const int64_t strip_stride = rest >= width ? width : (rest + vector.lanes - 1) / vector.lanes * vector.lanes;
    float* to = panel + strip * depth + (i - strip);
    if (weight.format == WeightFormat::f32) {
      const float* from = weight.data.data<const float>() + row * weight.in + range.in_begin;
      vector.pack_lanes(from, weight.in, outputs, depth, to, strip_stride);
      continue;
    }
    for (int64_t o = 0; o < outputs; ++o)
      expand_row(vector, weight, row + o, range.in_begin, range.in_end, expanded + o * depth);
    vector.pack_lanes(expanded, depth, outputs, depth, to, strip_stride);
  }
}

}  // namespace inkstone
