// Weight matrices, type-erased: layers hold them and never look at the format.
#pragma once
#include <vector>

#include "core/tensor.h"

namespace inkstone {

/// How the numbers of a weight matrix are held.
enum class WeightFormat : uint8_t {
  f32,
  f16,
  bf16,
  affine,  ///< packed codes of 4 or 8 bits; value = scale * code + offset, one scale and offset per group of inputs
};

/// An (out, in) matrix.
struct Weight {
  WeightFormat format = WeightFormat::f32;
  int64_t out = 0;
  int64_t in = 0;
  Tensor data;     ///< (out, in) in the float formats; u32 (out, in * bits / 32) for affine, lowest bits first
  Tensor scales;   ///< affine only: (out, in / group), any float type
  Tensor offsets;  ///< affine only: like scales
  int bits = 0;    ///< affine only: 4 or 8
  int group = 0;   ///< affine only: inputs that share a scale
};

/// The weight for a dense float matrix (out, in).
Weight dense_weight(const Tensor& matrix);

/// Bytes of all tensors of a weight.
size_t bytes_of(const Weight& weight);

/// The definition of every format: rows [begin, end) as f32 (end - begin, in), computed as f32(scale) * code +
/// f32(offset). Host tensors only; `out` has room for (end - begin) * in numbers.
void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out);

/// Some of a layer's output features: a matrix and, if the layer has one, its bias (out).
struct Slab {
  Weight weight;
  Tensor bias;
};

/// y = x Wᵀ + b, where W is its slabs one below the other. So q, k and v are one layer though files hold three
/// matrices, without copying them.
struct Linear {
  std::vector<Slab> slabs;

  int64_t in() const { return slabs.front().weight.in; }
  int64_t out() const;
};

/// Where a convolution's zeros go. The output has floor(size * upsampling / stride) rows and columns either way.
enum class Padding : uint8_t {
  same,   ///< one row and column of zeros on every side
  after,  ///< one row below and one column to the right, for the strided convolutions of the VAE's encoder
};

/// A two-dimensional 3x3 convolution over channels-last pictures.
struct Conv2d {
  Tensor weight;  ///< (out, 3, 3, in), f32, f16 or bf16
  Tensor bias;    ///< (out)
  Padding padding = Padding::same;
  int stride = 1;      ///< 1 or 2
  int upsampling = 1;  ///< 1 or 2: each pixel is read as a square of this side (nearest neighbour)

  int64_t in() const { return weight.dim(3); }
  int64_t out() const { return weight.dim(0); }
};

}  // namespace inkstone
