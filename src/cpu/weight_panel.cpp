#include "cpu/weight_panel.h"

#include <algorithm>

namespace inkstone {

void prefetch_row(const Weight& weight, int64_t row, int64_t begin, int64_t end) {
  if (weight.factors) return;  // rows are not apart from each other
  const auto bytes_of_row = static_cast<int64_t>(weight.data.bytes()) / weight.out;
  const int64_t from = begin * bytes_of_row / weight.in, to = end * bytes_of_row / weight.in;
  prefetch(weight.data.data<const std::byte>() + row * bytes_of_row + from, to - from);
}

void pack_panel(const VectorOps& vector, const PanelOps& ops, const Weight& weight, const PanelRange& range,
                const PanelMemory& to) {
  const int64_t width = strip_width(vector), depth = range.depth(), places = divide_up(depth, ops.inputs);
  const bool is_f32 = weight.format == WeightFormat::f32;
  for (int64_t i = 0; i < range.outputs(); i += vector.lanes) {
    const int64_t row = range.out_begin + i;
    const int64_t outputs = std::min(vector.lanes, range.out_end - row);
    const int64_t strip = i / width * width;  // its first output
    const int64_t strip_stride = std::min(width, round_up(range.outputs() - strip, vector.lanes));
    float* panel = to.panel + strip * places + (i - strip);
    const auto dense = [&](int64_t o) {
      return weight.data.data<const float>() + (row + o) * weight.in + range.in_begin;
    };
    if (is_f32 && ops.round_weights == nullptr) {
      vector.pack_lanes(dense(0), weight.in, outputs, places, panel, strip_stride);
      continue;
    }
    for (int64_t o = 0; o < outputs; ++o) {
      float* packed = to.rows + o * places;
      float* expanded = ops.round_weights == nullptr ? packed : to.rows + vector.lanes * places;
      if (!is_f32) expand_row(weight, vector.expander, row + o, range.in_begin, range.in_end, expanded);
      if (ops.round_weights != nullptr)
        ops.round_weights(is_f32 ? dense(o) : expanded, depth, packed, to.scales + i + o);
    }
    vector.pack_lanes(to.rows, places, outputs, places, panel, strip_stride);
  }
}

}  // namespace inkstone
