// What models call: checks shapes once, allocates the result, runs the kernel.
#pragma once
#include <vector>

#include "ops/device.h"

namespace inkstone {

/// Heads of a join: q has heads, k and v have kv_heads.
struct Heads {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t width = 0;  ///< of one head
};

/// Every method throws Error, naming the op and the shapes, if the arguments do not fit. Shapes and meaning of each op
/// are those of the method of the same name in Kernels.
class Ops {
 public:
  /// Whether the device may replay work that it was told of before: then kernels do not see it again.
  enum class Replays : uint8_t { no, yes };

  /// Who reads a result. An operand, which only products, convolutions and attention read, has the device's narrow
  /// type, and takes no more memory than that; attention's results always do.
  enum class Use : uint8_t { anything, operand };

  explicit Ops(Device& device) : Ops(device, device.kernels(), Replays::yes) {}
  /// Runs `kernels`, usually a decorator of the device's own.
  Ops(Device& device, Kernels& kernels, Replays replays = Replays::no)
      : device_(device), kernels_(kernels), replays_(replays) {}

  Tensor embed(const Weight& table, const Tensor& ids);
  std::vector<Tensor> linear(const std::vector<LinearPart>& parts, Use use = Use::anything);
  Tensor linear(const Tensor& x, const Linear& layer, const Epilogue& epilogue = {}, Use use = Use::anything);
  Tensor rms_norm(const Tensor& x, const Tensor& weight, const NormOptions& options, Use use = Use::anything);
  std::vector<Tensor> layer_norm_modulate(const std::vector<ModulatePart>& parts, float eps);
  Qkv join_qkv(const std::vector<QkvPart>& parts, const Heads& heads, float eps = 0);
  /// One tensor per stream of `in`.
  std::vector<Tensor> attention(const Qkv& in, const AttentionOptions& options = {});
  Tensor swiglu(const Tensor& x);
  Tensor timestep_embedding(const Tensor& t, int64_t width);
  Tensor patchify(const Tensor& latents, int64_t patch);
  /// `grid`: the latents' count, height, width.
  Tensor unpatchify(const Tensor& tokens, const Shape& grid, int64_t patch);
  Tensor guided_step(const Tensor& x, const Guidance& guidance, const Tensor& factor);
  Tensor add_scaled(const Tensor& x, const Tensor& y, const Tensor& factor);
  Tensor scale_shift(const Tensor& x, const Tensor& scale, const Tensor& shift);
  Tensor concat_rows(const std::vector<Tensor>& parts);
  Tensor conv2d(const Tensor& x, const Conv2d& conv, const Tensor& residual = {});
  Tensor to_rgb8(const Tensor& x);
  Tensor from_rgb8(const Tensor& x);

  Tensor upload(const Tensor& host) { return device_.upload(host); }
  Tensor download(const Tensor& tensor) { return device_.download(tensor); }

  /// See Device::record().
  std::unique_ptr<Recording> record(std::span<const Tensor> inputs, const RecordedWork& work) {
    return replays_ == Replays::yes ? device_.record(inputs, work) : nullptr;
  }

 private:
  Tensor empty(const Shape& shape, Use use = Use::anything);
  Tensor empty(const Shape& shape, DType dtype);

  Device& device_;
  Kernels& kernels_;
  Replays replays_;
};

}  // namespace inkstone
