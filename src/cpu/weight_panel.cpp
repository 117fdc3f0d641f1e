#include "cpu/weight_panel.h"

#include <algorithm>

namespace inkstone {
namespace {

constexpr int64_t kLineBytes = 64;  // of a cache line

}  // namespace

void prefetch_row(const Weight& weight, int64_t row, int64_t begin, int64_t end) {
  if (weight.factors) return;  // rows are not apart from each other
  const auto bytes_of_row = static_cast<int64_t>(weight.data.bytes()) / weight.out;
  const std::byte* data = weight.data.data<const std::byte>() + row * bytes_of_row;
  for (int64_t i = begin * bytes_of_row / weight.in; i < end * bytes_of_row / weight.in; i += kLineBytes)
    __builtin_prefetch(data + i);
}

void pack_panel(const VectorOps& vector, const Weight& weight, const PanelRange& range, float* expanded, float* panel) {
  const int64_t width = strip_width(vector);
  const int64_t depth = range.depth(), next_end = std::min(range.in_end + depth, weight.in);
  for (int64_t i = 0; i < range.outputs(); i += vector.lanes) {
    const int64_t row = range.out_begin + i;
    const int64_t outputs = std::min(vector.lanes, range.out_end - row);
    const int64_t strip = i / width * width;  // its first output
    const int64_t rest = range.outputs() - strip;
    const int64_t strip_stride = rest >= width ? width : (rest + vector.lanes - 1) / vector.lanes * vector.lanes;
    float* to = panel + strip * depth + (i - strip);
    for (int64_t o = 0; o < outputs; ++o) prefetch_row(weight, row + o, range.in_end, next_end);
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
