// The base of all decorators: sees every kernel call, whatever the op.
#pragma once
#include <functional>
#include <string_view>

#include "ops/kernels.h"

namespace inkstone {

/// One kernel call on its way to a device.
struct Call {
  std::string_view op;     ///< the method's name
  std::span<Tensor> out;   ///< the results, allocated but not yet computed
  std::vector<Tensor> in;  ///< the activations read
  double flop = 0;         ///< multiply and add counted as two; 0 where arithmetic is negligible
  /// Runs the op on some kernels into some results (as many as `out`, of the same shapes).
  std::function<void(Kernels&, std::span<Tensor>)> run;
  std::span<const LinearPart> parts = {};  ///< of "linear"
  const Conv2d* conv = nullptr;            ///< of "conv2d"
  const Qkv* tolerant = nullptr;           ///< of "attention" that may be rounded
};

/// A Kernels that hands each call to intercept(), which decides how to run it.
class Interceptor : public Kernels {
 public:
  void embed(Tensor& out, const Weight& table, const Tensor& ids) final;
  void linear(std::span<Tensor> out, std::span<const LinearPart> parts) final;
  void rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) final;
  void layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) final;
  void join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) final;
  void attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) final;
  void swiglu(Tensor& out, const Tensor& x) final;
  void timestep_embedding(Tensor& out, const Tensor& t) final;
  void patchify(Tensor& out, const Tensor& latents) final;
  void unpatchify(Tensor& out, const Tensor& tokens) final;
  void guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) final;
  void add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) final;
  void scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) final;
  void concat_rows(Tensor& out, std::span<const Tensor> parts) final;
  void conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) final;
  void to_rgb8(Tensor& out, const Tensor& x) final;
  void from_rgb8(Tensor& out, const Tensor& x) final;

 protected:
  virtual void intercept(const Call& call) = 0;
};

}  // namespace inkstone
