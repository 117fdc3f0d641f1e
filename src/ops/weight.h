// Weight matrices, type-erased: layers hold them and never look at the format.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/activation.h"
#include "ops/weight_format.h"

namespace inkstone {

/// An (out, in) matrix.
struct Weight {
  WeightFormat format = WeightFormat::f32;
  int64_t out = 0;
  int64_t in = 0;
  Tensor data;        ///< (out, elements of a row's blocks), of any type: (out, in) in the float formats
  Tensor scales;      ///< only where the format has them beside its blocks: (out, in / group), F32, F16 or BF16
  Tensor offsets;     ///< likewise
  int64_t group = 0;  ///< inputs that share a scale; 0 without scales
  /// F32 (in): of affine8 whose codes, U8 (out, in), and scales, F32 (groups, out), are mixed and lie in the order of
  /// ops/mixed_codes.h, without offsets; or of affine4 whose codes are U8 (out, in / 2), with steps and offsets in
  /// `offsets`, U8 (2 small groups, out). On other devices than the cpu only what their own arithmetic in 8 bits made,
  /// of affine8, is such a weight.
  Tensor factors = {};
};

/// The format of dense matrices of a type; nothing for types that are no weights.
std::optional<WeightFormat> dense_format(DType type);

/// The names of those that are, for errors.
std::string dense_types();

/// The weight for a dense float matrix (out, in).
Weight dense_weight(const Tensor& matrix);

/// Bytes of all tensors of a weight.
size_t bytes_of(const Weight& weight);

/// Ranges of inputs begin and end at multiples of this.
int64_t input_unit(const Weight& weight);

/// Inputs of an output from `begin` on, with `groups` scales and, behind them, offsets that are widened to `room`. Not
/// of weights with factors. Host tensors only.
PackedRow packed_row(const Weight& weight, Expand (*expander)(WeightFormat), int64_t row, int64_t begin, int64_t groups,
                     float* room);

/// Inputs [begin, end) of one output, with the loops of `expander`. Host tensors only.
void expand_row(const Weight& weight, Expand (*expander)(WeightFormat), int64_t row, int64_t begin, int64_t end,
                float* out);

/// The definition of every format, that of ops/expand.inl: rows [begin, end) as f32 (end - begin, in). Host tensors
/// only.
void dequantize_rows(const Weight& weight, int64_t begin, int64_t end, float* out);

/// A change of low rank beside a matrix, such as a LoRA (https://arxiv.org/abs/2106.09685): adds
/// factor * (x downᵀ) upᵀ, so that the matrix itself may stay packed.
struct SideBranch {
  Weight down;  ///< (rank, in)
  Weight up;    ///< (out, rank)
  float factor = 1;

  int64_t rank() const { return down.out; }
};

/// Some of a layer's output features: a matrix and, if the layer has one, its bias (out).
struct Slab {
  Weight weight;
  Tensor bias;
  std::vector<SideBranch> branches = {};
  std::string name = {};  ///< of the matrix in the checkpoint, without `.weight`; empty if it comes from elsewhere
};

/// What a device made of a layer's weights when it first needed it.
struct DeviceForm {
  virtual ~DeviceForm() = default;
};

/// Of a layer that tolerates rounding: a device that was asked for lossy arithmetic may use it there.
struct Tolerance {
  std::unique_ptr<DeviceForm> form;
  bool often_used = true;  ///< else rounded weights are not worth memory of their own
};

/// y = x Wᵀ + b + its side branches, where W is its slabs one below the other. So q, k and v are one layer though files
/// hold three matrices, without copying them.
struct Linear {
  std::vector<Slab> slabs;
  /// Null: none. Copies of a layer, side branches and all, share it, so that a device looks at their weights once.
  std::shared_ptr<Tolerance> tolerance;

  int64_t in() const { return slabs.front().weight.in; }
  int64_t out() const;
};

/// Calls `visit(Tensor&)` for the tensors that a weight has.
void for_each_tensor(Weight& weight, const auto& visit) {
  for (Tensor* tensor : {&weight.data, &weight.scales, &weight.offsets, &weight.factors})
    if (*tensor) visit(*tensor);
}

/// The same for a layer: like tensors of its slabs one after the other, so that they can be read as one.
void for_each_tensor(Linear& layer, const auto& visit) {
  for (Tensor Weight::*tensor : {&Weight::data, &Weight::scales, &Weight::offsets, &Weight::factors})
    for (Slab& slab : layer.slabs)
      if (slab.weight.*tensor) visit(slab.weight.*tensor);
  for (Slab& slab : layer.slabs)
    if (slab.bias) visit(slab.bias);
  for (Slab& slab : layer.slabs)
    for (SideBranch& branch : slab.branches)
      for (Weight* half : {&branch.down, &branch.up}) for_each_tensor(*half, visit);
}

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
  int stride = 1;         ///< 1 or 2
  int upsampling = 1;     ///< 1 or 2: each pixel is read as a square of this side (nearest neighbour)
  bool tolerant = false;  ///< of rounding: a device that was asked for lossy arithmetic may use it here
  Tensor norm;            ///< (out): the weight of a norm of the result as Kernels::rms_norm; absent: none
  NormOptions norm_options = {};

  int64_t in() const { return weight.dim(3); }
  int64_t out() const { return weight.dim(0); }
};

}  // namespace inkstone
