#include "ops/weight.h"

#include <algorithm>

namespace inkstone {
namespace {

constexpr int kWordBits = 32;

template <class T>
void widen_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  const T* data = weight.data.data<const T>();
  std::transform(data + begin * weight.in, data + end * weight.in, out, [](T x) { return to_float(x); });
}

float float_at(const Tensor& t, int64_t i) {
  switch (t.dtype()) {
    case DType::f32:
      return t.data<const float>()[i];
    case DType::f16:
      return to_float(t.data<const f16_t>()[i]);
    case DType::bf16:
      return to_float(t.data<const bf16_t>()[i]);
    default:
      fail("scales of {} where F32, F16 or BF16 is needed", name_of(t.dtype()));
  }
}

void expand_affine_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  const int64_t codes_per_word = kWordBits / weight.bits;
  const uint32_t mask = (1u << weight.bits) - 1u;
  const int64_t words = weight.in / codes_per_word;
  const int64_t groups = weight.in / weight.group;
  for (int64_t row = begin; row < end; ++row)
    for (int64_t i = 0; i < weight.in; ++i) {
      const uint32_t word = weight.data.data<const uint32_t>()[row * words + i / codes_per_word];
      const uint32_t code = (word >> (i % codes_per_word * weight.bits)) & mask;
      const int64_t group = row * groups + i / weight.group;
      *out++ = float_at(weight.scales, group) * static_cast<float>(code) + float_at(weight.offsets, group);
    }
}

size_t held_bytes(const Tensor& t) { return t ? t.bytes() : 0; }

}  // namespace

Weight dense_weight(const Tensor& matrix) {
  check(matrix.shape().rank() == 2, "a weight of shape {}: a matrix (out, in) is needed", matrix.shape());
  Weight weight = {.out = matrix.dim(0), .in = matrix.dim(1), .data = matrix};
  switch (matrix.dtype()) {
    case DType::f32:
      weight.format = WeightFormat::f32;
      return weight;
    case DType::f16:
      weight.format = WeightFormat::f16;
      return weight;
    case DType::bf16:
      weight.format = WeightFormat::bf16;
      return weight;
    default:
      fail("a weight of {}: F32, F16 or BF16 is needed", name_of(matrix.dtype()));
  }
}

size_t bytes_of(const Weight& weight) {
  return held_bytes(weight.data) + held_bytes(weight.scales) + held_bytes(weight.offsets);
}

void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out) {
  switch (weight.format) {
    case WeightFormat::f32:
      return widen_rows<float>(weight, begin, end, out);
    case WeightFormat::f16:
      return widen_rows<f16_t>(weight, begin, end, out);
    case WeightFormat::bf16:
      return widen_rows<bf16_t>(weight, begin, end, out);
    case WeightFormat::affine:
      return expand_affine_rows(weight, begin, end, out);
  }
}

int64_t Linear::out() const {
  int64_t sum = 0;
  for (const Slab& slab : slabs) sum += slab.weight.out;
  return sum;
}

}  // namespace inkstone
