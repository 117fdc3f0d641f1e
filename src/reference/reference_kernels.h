// The definitions of the ops. Everything is f32 in memory; arithmetic and sums are f64, so that the result does not
// depend on their order.
#pragma once
#include "ops/kernels.h"

namespace inkstone {

/// Every method is one family's file in this folder.
class ReferenceKernels final : public Kernels {
 public:
  void embed(Tensor& out, const Weight& table, const Tensor& ids) override;
  void linear(std::span<Tensor> out, std::span<const LinearPart> parts) override;
  void rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) override;
  void layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) override;
  void join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) override;
  void attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) override;
  void swiglu(Tensor& out, const Tensor& x) override;
  void timestep_embedding(Tensor& out, const Tensor& t) override;
  void patchify(Tensor& out, const Tensor& latents) override;
  void unpatchify(Tensor& out, const Tensor& tokens) override;
  void guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) override;
  void add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) override;
  void scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) override;
  void concat_rows(Tensor& out, std::span<const Tensor> parts) override;
  void conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) override;
  void to_rgb8(Tensor& out, const Tensor& x) override;
  void from_rgb8(Tensor& out, const Tensor& x) override;
};

}  // namespace inkstone
