#include "cpu/weight_panel.h"

#include <algorithm>

namespace inkstone {
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
      expand_row(weight, vector.expander, row + o, range.in_begin, range.in_end, expanded + o * depth);
    vector.pack_lanes(expanded, depth, outputs, depth, to, strip_stride);
  }
}

}  // namespace inkstone
