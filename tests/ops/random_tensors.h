// Random arguments for ops, the same for the same seed everywhere, and how far two results are apart.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/random.h"
#include "ops/random_blocks.h"
#include "ops/weight.h"

namespace inkstone {

/// Standard normal numbers times `scale`.
inline Tensor random_normal(const Shape& shape, uint64_t seed, float scale = 1) {
  Tensor t = host_tensor(shape, DType::f32);
  torch_normal(seed, t.span<float>());
  for (float& x : t.span<float>()) x *= scale;
  return t;
}

/// For tensors so large that drawing every number would take too long: a normal sequence, repeated.
inline Tensor repeated_normal(const Shape& shape, uint64_t seed, float scale = 1) {
  constexpr int64_t kPeriod = 65521;  // a prime, so that rows differ
  const Tensor period = random_normal({kPeriod}, seed, scale);
  Tensor t = host_tensor(shape, DType::f32);
  float* to = t.data<float>();
  for (int64_t i = 0; i < t.count(); i += kPeriod)
    std::copy_n(period.data<float>(), std::min(kPeriod, t.count() - i), to + i);
  return t;
}

/// Whole numbers from [0, end) as i32 (n).
inline Tensor random_indices(int64_t n, int32_t end, uint64_t seed) {
  const Tensor normal = random_normal({n}, seed, 1e4f);
  std::vector<int32_t> values;
  for (const float x : normal.span<const float>()) values.push_back(static_cast<int32_t>(std::abs(x)) % end);
  return host_tensor(values);
}

inline Tensor as_bf16(const Tensor& f32) {
  Tensor t = host_tensor(f32.shape(), DType::bf16);
  const auto from = f32.span<const float>();
  std::transform(from.begin(), from.end(), t.data<bf16_t>(), to_bf16);
  return t;
}

/// Cut off, not rounded; below the normal numbers of f16 zero.
inline Tensor as_f16(const Tensor& f32) {
  Tensor t = host_tensor(f32.shape(), DType::f16);
  const auto from = f32.span<const float>();
  std::transform(from.begin(), from.end(), t.data<f16_t>(), [](float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const auto exponent = static_cast<int>((bits >> 23) & 0xffu) - 127 + 15;
    const uint32_t sign = (bits >> 16) & 0x8000u;
    if (exponent <= 0) return f16_t{static_cast<uint16_t>(sign)};
    return f16_t{static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent) << 10) | ((bits >> 13) & 0x3ffu))};
  });
  return t;
}

/// Every format that a device must take.
inline const std::vector<WeightFormat>& every_weight_format() {
  static const std::vector<WeightFormat> formats = [] {
    std::vector<WeightFormat> all;
    for (size_t i = 0; i < std::size(kBlockLayouts); ++i) all.push_back(static_cast<WeightFormat>(i));
    return all;
  }();
  return formats;
}

constexpr int64_t kRandomGroup = 32;

/// Rows of a random matrix are multiples of this.
inline int64_t random_unit(WeightFormat format) {
  return layout_of(format).beside == Beside::scales_and_offsets ? kRandomGroup : layout_of(format).numbers;
}

/// Codes of `bits` with bf16 scales and offsets per group of inputs; values spread as those of a dense matrix.
inline Weight random_affine(int bits, int64_t out, int64_t in, uint64_t seed, int64_t group = kRandomGroup) {
  const WeightFormat format = bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8;
  Weight w = {.format = format, .out = out, .in = in, .group = group};
  w.data = host_tensor({out, in * bits / 32}, DType::u32);
  const Tensor words = random_normal(w.data.shape(), seed, 0x1p28f);
  for (int64_t i = 0; i < words.count(); ++i)
    w.data.data<uint32_t>()[i] = static_cast<uint32_t>(static_cast<int64_t>(words.data<float>()[i])) * 2654435761u;
  const float step = 4 / (std::sqrt(static_cast<float>(in)) * static_cast<float>(1 << bits));
  Tensor scales = random_normal({out, in / group}, seed + 1, step / 4);
  for (float& x : scales.span<float>()) x += step;
  Tensor offsets = random_normal(scales.shape(), seed + 2, step);
  for (float& x : offsets.span<float>()) x -= step * static_cast<float>(1 << (bits - 1));
  w.scales = as_bf16(scales);
  w.offsets = as_bf16(offsets);
  return w;
}

/// Any bits as the numbers of 8 bits below 2, with a scale for each output.
inline Weight random_fp8(WeightFormat format, int64_t out, int64_t in, uint64_t seed) {
  Weight w = {.format = format, .out = out, .in = in, .data = host_tensor({out, in}, DType::u8), .group = in};
  const std::vector<uint8_t> bits = random_bytes(out * in, seed);
  std::transform(bits.begin(), bits.end(), w.data.data<uint8_t>(), [](uint8_t x) { return x & 0xbf; });
  w.scales = random_normal({out, 1}, seed + 1, 1 / std::sqrt(static_cast<float>(in)));
  return w;
}

/// Random blocks whose sums keep the size of what they multiply.
inline Weight random_blocks_weight(WeightFormat format, int64_t out, int64_t in, uint64_t seed) {
  const BlockLayout& layout = layout_of(format);
  Weight w = {.format = format, .out = out, .in = in};
  const std::vector<uint8_t> blocks = random_blocks(format, out * in / layout.numbers, seed, kSmallHalves);
  w.data = host_tensor({out, in / layout.numbers * layout.bytes}, DType::u8);
  std::copy(blocks.begin(), blocks.end(), w.data.data<uint8_t>());
  return w;
}

/// A matrix (out, in) that keeps the size of what it multiplies. `in` is a multiple of random_unit(format).
inline Weight random_weight(WeightFormat format, int64_t out, int64_t in, uint64_t seed) {
  const auto dense = [&] { return random_normal({out, in}, seed, 1 / std::sqrt(static_cast<float>(in))); };
  switch (format) {
    case WeightFormat::f32:
      return dense_weight(dense());
    case WeightFormat::f16:
      return dense_weight(as_f16(dense()));
    case WeightFormat::bf16:
      return dense_weight(as_bf16(dense()));
    case WeightFormat::affine4:
      return random_affine(4, out, in, seed);
    case WeightFormat::affine8:
      return random_affine(8, out, in, seed);
    case WeightFormat::f8_e4m3:
    case WeightFormat::f8_e5m2:
      return random_fp8(format, out, in, seed);
    default:
      return random_blocks_weight(format, out, in, seed);
  }
}

/// A layer of one slab with a bias.
inline Linear random_layer(WeightFormat format, int64_t out, int64_t in, uint64_t seed) {
  return {{{random_weight(format, out, in, seed), random_normal({out}, seed + 100)}}};
}

/// Beside every slab `count` branches of growing rank, in all types that LoRA files have.
inline void add_branches(Linear& layer, size_t count) {
  constexpr WeightFormat kHalves[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::f16};
  uint64_t seed = 50;
  for (Slab& slab : layer.slabs)
    for (size_t i = 0; i < count; ++i, seed += 2) {
      const int64_t rank = static_cast<int64_t>(1 + 19 * i);
      slab.branches.push_back({random_weight(kHalves[i % 3], rank, slab.weight.in, seed),
                               random_weight(kHalves[(i + 1) % 3], slab.weight.out, rank, seed + 1),
                               0.5f + static_cast<float>(i)});
    }
}

/// |actual - expected| / |expected| over all elements; infinite if the shapes differ or a number is not finite.
inline double relative_l2(const Tensor& actual, const Tensor& expected) {
  if (actual.shape() != expected.shape()) return INFINITY;
  double difference = 0, size = 0;
  for (int64_t i = 0; i < expected.count(); ++i) {
    const double a = actual.data<float>()[i], e = expected.data<float>()[i];
    difference += (a - e) * (a - e);
    size += e * e;
  }
  const double error = difference == 0 ? 0 : std::sqrt(difference / size);
  return std::isfinite(error) ? error : INFINITY;
}

/// The numbers of a host f32 tensor.
inline std::vector<float> values_of(const Tensor& f32) {
  const auto span = f32.span<const float>();
  return {span.begin(), span.end()};
}

/// Slabs of these many outputs with biases.
inline Linear tolerant(WeightFormat format, const std::vector<int64_t>& outs, int64_t in, uint64_t seed) {
  Linear layer;
  for (const int64_t out : outs) {
    const uint64_t s = seed + 10 * layer.slabs.size();
    layer.slabs.push_back({random_weight(format, out, in, s), random_normal({out}, s + 5)});
  }
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

}  // namespace inkstone
