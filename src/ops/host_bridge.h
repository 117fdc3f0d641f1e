// A device with memory of its own, seen as one that reads host memory: to compare it with another, op by op.
#pragma once
#include "ops/device.h"

namespace inkstone {

/// Every method uploads what the op reads and downloads what it gives, as the type of `out`. Slow; adds no rounding but
/// the device's own.
class HostBridge final : public Kernels {
 public:
  explicit HostBridge(Device& device) : device_(device) {}

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

 private:
  Tensor up(const Tensor& host) { return host ? device_.upload(host) : host; }
  Weight up(const Weight& weight);
  SequenceRows up(const SequenceRows& vectors);
  /// A place on the device for a result.
  Tensor like(const Tensor& out);
  void down(const Tensor& result, Tensor& out);
  /// Runs an op of one result, given where to put it.
  template <class Run>
  void give(Tensor& out, const Run& run);
  template <class Run>
  void give(std::span<Tensor> out, const Run& run);

  Device& device_;
};

}  // namespace inkstone
