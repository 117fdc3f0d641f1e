#include "cpu/weight_panel.h"

#include <algorithm>
#include <cstring>

namespace inkstone {
namespace {

constexpr int kWordBits = 32;

float number(const Tensor& t, int64_t i) {
  float x;
  widen(t, i, 1, &x);
  return x;
}

template <int bits>
void expand_codes(const uint32_t* words, int64_t count, float scale, float offset, float* out) {
  constexpr int kCodes = kWordBits / bits;
  constexpr uint32_t kMask = (1u << bits) - 1u;
  for (int64_t word = 0; word < count / kCodes; ++word)
    for (int code = 0; code < kCodes; ++code)
      *out++ = scale * static_cast<float>((words[word] >> (code * bits)) & kMask) + offset;
}

void expand_affine(const Weight& w, const PanelRange& range, float* out) {
  const int64_t words = w.in * w.bits / kWordBits;
  const int64_t groups = w.in / w.group;
  const int64_t group_words = w.group * w.bits / kWordBits;
  for (int64_t row = range.row_begin; row < range.row_end; ++row)
    for (int64_t g = range.column_begin / w.group; g < range.column_end / w.group; ++g, out += w.group) {
      const uint32_t* codes = w.data.data<const uint32_t>() + row * words + g * group_words;
      const float scale = number(w.scales, row * groups + g);
      const float offset = number(w.offsets, row * groups + g);
      if (w.bits == 4)
        expand_codes<4>(codes, w.group, scale, offset, out);
      else
        expand_codes<8>(codes, w.group, scale, offset, out);
    }
}

}  // namespace

int64_t column_unit(const Weight& weight) { return weight.format == WeightFormat::affine ? weight.group : 1; }

void widen(const Tensor& from, int64_t begin, int64_t count, float* out) {
  const auto each = [&](const auto* x) {
    std::transform(x + begin, x + begin + count, out, [](auto v) { return to_float(v); });
  };
  switch (from.dtype()) {
    case DType::f32:
      return each(from.data<const float>());
    case DType::f16:
      return each(from.data<const f16_t>());
    case DType::bf16:
      return each(from.data<const bf16_t>());
    default:
      fail("weights of {} where F32, F16 or BF16 is needed", name_of(from.dtype()));
  }
}

void expand_panel(const Weight& weight, const PanelRange& range, float* out) {
  if (weight.format == WeightFormat::affine) return expand_affine(weight, range, out);
  for (int64_t row = range.row_begin; row < range.row_end; ++row, out += range.columns())
    widen(weight.data, row * weight.in + range.column_begin, range.columns(), out);
}

}  // namespace inkstone
