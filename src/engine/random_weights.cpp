#include "engine/random_weights.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/option_error.h"
#include "ops/mixed_order.h"

namespace inkstone {
namespace {

constexpr int kGroup = 64;                    // of packed matrices, as mflux packs them
constexpr int64_t kChunk = int64_t{1} << 18;  // numbers of one task
constexpr double kMeanSquareRoot = 1.53;      // root of the mean square of numbers spread evenly over [1, 2)

constexpr std::array<std::pair<std::string_view, RandomFormat>, 8> kFormats = {{
    {"f32", RandomFormat::f32},
    {"f16", RandomFormat::f16},
    {"bf16", RandomFormat::bf16},
    {"fp8", RandomFormat::fp8},
    {"int4", RandomFormat::int4},
    {"int8", RandomFormat::int8},
    {"int4_cpu", RandomFormat::int4_cpu},
    {"int8_cpu", RandomFormat::int8_cpu},
}};

/// Bits that look random, from a counter (the finaliser of MurmurHash3).
uint32_t scrambled(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return x ^ (x >> 16);
}

/// A format of floats in an integer type.
template <class T>
struct FloatLayout {
  int mantissa_bits;
  int exponent_bias;
};
constexpr FloatLayout<uint32_t> kF32 = {23, 127};
constexpr FloatLayout<uint16_t> kF16 = {10, 15};
constexpr FloatLayout<uint16_t> kBf16 = {7, 127};
constexpr FloatLayout<uint8_t> kE4m3 = {3, 7};

/// Numbers with random signs and magnitudes in [2^exponent, 2^(exponent + 1)).
template <class T>
void fill_floats(T* out, int64_t begin, int64_t end, uint32_t seed, FloatLayout<T> layout, int exponent) {
  constexpr int kSign = 8 * sizeof(T) - 1;
  const auto power = static_cast<T>(std::max(exponent + layout.exponent_bias, 1)) << layout.mantissa_bits;
  const uint32_t mantissa = (uint32_t{1} << layout.mantissa_bits) - 1;
  for (int64_t i = begin; i < end; ++i) {
    const uint32_t r = scrambled(static_cast<uint32_t>(i) + seed);
    out[i] = static_cast<T>((r >> 31 << kSign) | static_cast<uint32_t>(power) | (r & mantissa));
  }
}

void fill_codes(uint32_t* out, int64_t begin, int64_t end, uint32_t seed) {
  for (int64_t i = begin; i < end; ++i) out[i] = scrambled(static_cast<uint32_t>(i) + seed);
}

/// The power of two below what keeps the size of a sum over so many inputs.
int exponent_for(int64_t inputs) {
  return static_cast<int>(std::floor(std::log2(1 / (kMeanSquareRoot * std::sqrt(static_cast<double>(inputs))))));
}

bool has_4_bits(RandomFormat format) { return format == RandomFormat::int4 || format == RandomFormat::int4_cpu; }
int bits_of(RandomFormat format) { return has_4_bits(format) ? 4 : 8; }
bool is_packed(RandomFormat format, int64_t in) {
  return (has_4_bits(format) || format == RandomFormat::int8 || format == RandomFormat::int8_cpu) && in % kGroup == 0;
}

/// Of a layer that may be multiplied in 8 bits: attention's and the MLPs' of blocks.
bool is_mixed(RandomFormat format, const std::string& name, int64_t out, int64_t in) {
  constexpr std::array<std::string_view, 4> kLayers = {".attn.", "_mlp.", ".self_attn.", ".mlp."};
  return is_for_cpu(format) && MixedOrder::takes_small(out, in) &&
         std::ranges::any_of(kLayers, [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

size_t mixed_bytes(bool small, int64_t out, int64_t in) {
  const auto numbers = static_cast<size_t>(MixedOrder::groups_in(in) * out + in);
  const int64_t codes = small ? out * in / 2 + 2 * MixedOrder::small_groups_in(in) * out : out * in;
  return numbers * sizeof(float) + static_cast<size_t>(codes);
}

/// The same memory.
Tensor in_bytes(const Tensor& t, const Shape& shape) { return {t.buffer(), t.offset(), shape, DType::u8}; }

DType dense_type(RandomFormat format) {
  switch (format) {
    case RandomFormat::f32:
      return DType::f32;
    case RandomFormat::f16:
      return DType::f16;
    default:
      return DType::bf16;
  }
}

}  // namespace

RandomFormat random_format(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& [known, format] : kFormats) {
    if (known == name) return format;
    names.push_back(known);
  }
  fail_option("format \"{}\": there are {}", name, fmt::join(names, ", "));
}

size_t random_matrix_bytes(RandomFormat format, const std::string& name, int64_t out, int64_t in) {
  if (is_mixed(format, name, out, in)) return mixed_bytes(has_4_bits(format), out, in);
  constexpr int64_t kByte = 8;
  const auto scale = static_cast<int64_t>(size_of(DType::bf16));
  const int64_t bytes = format == RandomFormat::fp8 ? out * in + out * scale
                        : is_packed(format, in) ? out * in * bits_of(format) / kByte + 2 * out * (in / kGroup) * scale
                                                : out * in * static_cast<int64_t>(size_of(dense_type(format)));
  return static_cast<size_t>(bytes);
}

RandomWeights::RandomWeights(Device& device, RandomFormat format, int threads, std::stop_token stop)
    : WeightLoader(no_files_, device, std::nullopt, stop), device_(device), format_(format), pool_(threads) {
  pool_.watch(std::move(stop));
}

Tensor RandomWeights::counted(const Tensor& host) {
  check_stop();
  bytes_ += host.bytes();
  return host;
}

Tensor RandomWeights::numbers(const Shape& shape, DType type, int64_t inputs) {
  const Tensor host = host_tensor(shape, type);
  const int64_t n = host.count();
  const uint32_t seed = scrambled(++tensors_);
  const int exponent = exponent_for(inputs);
  pool_.run((n + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk, end = std::min(n, begin + kChunk);
    switch (type) {
      case DType::f32:
        return fill_floats(host.data<uint32_t>(), begin, end, seed, kF32, exponent);
      case DType::f16:
        return fill_floats(host.data<uint16_t>(), begin, end, seed, kF16, exponent);
      case DType::bf16:
        return fill_floats(host.data<uint16_t>(), begin, end, seed, kBf16, exponent);
      case DType::f8_e4m3:
        return fill_floats(host.data<uint8_t>(), begin, end, seed, kE4m3, exponent);
      default:
        return fill_codes(host.data<uint32_t>(), begin, end, seed);
    }
  });
  return host;
}

Tensor RandomWeights::filled(const Shape& shape, float value) {
  const Tensor host = host_tensor(shape, DType::bf16);
  std::ranges::fill(host.span<bf16_t>(), to_bf16(value));
  return counted(host);
}

/// E4M3 has too small a range for numbers of their right size.
Weight RandomWeights::scaled_fp8(int64_t out, int64_t in) {
  Weight weight = dense_weight(counted(numbers({out, in}, DType::f8_e4m3, 1)));
  weight.scales = filled({out, 1}, std::ldexp(1.0f, exponent_for(in) - exponent_for(1)));
  weight.group = in;
  return weight;
}

Weight RandomWeights::mixed(int64_t out, int64_t in) {
  constexpr uint8_t kGreatestStep = 17, kNoOffset = 0;  // 16 numbers from 0 to 255
  const bool small = has_4_bits(format_);
  Weight weight = {.format = small ? WeightFormat::affine4 : WeightFormat::affine8,
                   .out = out,
                   .in = in,
                   .data = counted(numbers({out, (small ? in / 2 : in) / 4}, DType::u32, in)),
                   .group = kMixedGroup};
  const float scale = std::ldexp(2.0f, exponent_for(in)) / kMixedOffset;
  const std::vector<float> scales(static_cast<size_t>(MixedOrder::groups_in(in) * out), scale);
  weight.scales = counted(host_tensor(scales).reshape({MixedOrder::groups_in(in), out}));
  weight.factors = counted(host_tensor(std::vector<float>(static_cast<size_t>(in), 1.0f)));
  weight.data = in_bytes(weight.data, {out, small ? in / 2 : in});
  if (!small) return weight;
  const Tensor steps = host_tensor({2 * MixedOrder::small_groups_in(in), out}, DType::u8);
  const MixedOrder order = {out, in};
  std::ranges::fill(steps.span<uint8_t>(), kNoOffset);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; i += kMixedSmallGroup) steps.data<uint8_t>()[order.step(o, i)] = kGreatestStep;
  weight.offsets = counted(steps);
  return weight;
}

Weight RandomWeights::matrix(const std::string& name, int64_t out, int64_t in) {
  if (is_mixed(format_, name, out, in)) return mixed(out, in);
  if (format_ == RandomFormat::fp8) return scaled_fp8(out, in);
  if (!is_packed(format_, in)) return dense_weight(counted(numbers({out, in}, dense_type(format_), in)));
  const int bits = bits_of(format_);
  const WeightFormat packed = bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8;
  const auto greatest = static_cast<float>((1 << bits) - 1);
  const float size = std::ldexp(2.0f, exponent_for(in));
  Weight weight = {.format = packed, .out = out, .in = in};
  weight.data = counted(numbers({out, in * bits / 32}, DType::u32, in));
  if (format_ == RandomFormat::int8_cpu) weight.data = in_bytes(weight.data, {out, in});  // as `quantize` has them
  weight.scales = filled({out, in / kGroup}, 2 * size / greatest);
  weight.offsets = filled({out, in / kGroup}, -size);
  weight.group = kGroup;
  return weight;
}

Tensor RandomWeights::activations(const Shape& shape) { return device_.upload(numbers(shape, DType::f32, 1)); }

Linear RandomWeights::linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) {
  Linear layer;
  for (const SlabName& slab : slabs)
    layer.slabs.push_back({matrix(slab.name, slab.out, in), bias == Bias::present ? ones(slab.out) : Tensor()});
  device_.upload_weights(layer);
  return layer;
}

Weight RandomWeights::table(const std::string& name, int64_t rows, int64_t width) {
  Weight table = matrix(name, rows, width);
  for_each_tensor(table, [this](Tensor& tensor) { tensor = device_.upload_weight(tensor); });
  return table;
}

Tensor RandomWeights::ones(int64_t n) { return counted(host_tensor(std::vector<float>(static_cast<size_t>(n), 1.0f))); }

Tensor RandomWeights::vector(const std::string&, int64_t n) { return device_.upload_weight(ones(n)); }

Conv2d RandomWeights::conv2d(const std::string& name, int64_t out, int64_t in) {
  return {.weight = device_.upload_weight(counted(numbers({out, 3, 3, in}, dense_type(format_), 9 * in))),
          .bias = vector(name + ".bias", out)};
}

}  // namespace inkstone
