// The ops on a CUDA device. Each method is one family's file in this folder.
#pragma once
#include "cuda/context.h"
#include "cuda/scratch_bytes.h"
#include "ops/kernels.h"

namespace inkstone {

/// With bf16 arithmetic these results are bf16, all others f32: of layer_norm_modulate, swiglu and attention, which
/// linear layers read; of a linear layer that feeds another, or whose slabs the next op takes apart; q, k and v; of a
/// norm with an activation, which convolutions read; of a convolution that a norm follows in the same op, on
/// Hopper, whatever the norm's activation: rounded before the norm and behind it where a tile lacks some channels of a
/// pixel. Residual streams, pictures and latents stay f32. With fp8, what feeds a layer in 8 bits is written so, see
/// rounded() in cuda/views.h.
class CudaKernels final : public Kernels {
 public:
  explicit CudaKernels(CudaContext& context) : context_(context) {}

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

  // What linear(), conv2d() and attention() allocate beside their results for so many rows or pixels, without what is
  // made of weights and bands of a constant size. The type of an x tells what a copy it takes: I8 is what the layer
  // wants.
  size_t step_bytes(std::span<const LinearPart> parts) const;
  size_t conv_bytes(const Tensor& x, const Conv2d& conv) const;
  size_t attention_bytes(const Qkv& in) const;

  /// Drops what waits for an op that will not come, as the call that it belongs to was stopped.
  void forget_waiting();

 private:
  /// Layers whose results join_qkv is to take apart: it makes queries, keys and values of the products at once, if
  /// nothing else wants them before.
  struct Waiting {
    std::vector<Tensor> out;
    std::vector<LinearPart> parts;
    std::vector<Linear> layers;  // of the parts: a call that is stopped or fails takes its own with it
  };

  /// What becomes of a part's product in one launch with others.
  enum class Ending : uint8_t { other, bf16, codes, residual, heads };

  void linear(Tensor& out, const LinearPart& part);
  /// Each part for itself.
  void linear_apart(std::span<Tensor> out, std::span<const LinearPart> parts);
  /// The same of all parts, with results of these types; Ending::other: they do not suit one launch.
  Ending fused_ending(std::span<const LinearPart> parts, std::span<const DType> out) const;
  Ending ending_of(const LinearPart& part, DType out) const;
  /// All parts as one launch; whether they suit that.
  bool linear_fused(std::span<Tensor> out, std::span<const LinearPart> parts);
  bool wait_for_join(std::span<Tensor> out, std::span<const LinearPart> parts);
  /// What waits, if it is those; else nothing.
  Waiting take_waiting(std::span<const QkvPart> parts);
  /// In the products' launch; whether they suit that.
  bool join_fused(const Waiting& waiting, const std::vector<cuda::JoinPart>& parts, const cuda::Joined& joined);
  void join(Waiting waiting, const std::vector<cuda::JoinPart>& parts, const cuda::Joined& joined);
  bool uses_fp8(const Linear* layer) const;
  /// conv2d() but, perhaps, the norm behind it; whether that is done.
  bool convolve(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual);
  void linear_fp8(Tensor& out, const LinearPart& part);
  /// Whether a layer in 8 bits writes its result in 8 bits for the next.
  bool rounds_result(const LinearPart& part) const;
  void linear_int8(Tensor& out, const LinearPart& part);
  // What these three ways allocate for a part; `fused`: if all go in one launch.
  void count_plain(ScratchBytes& scratch, const LinearPart& part, bool fused) const;
  void count_fp8(ScratchBytes& scratch, const LinearPart& part, bool fused) const;
  static void count_int8(ScratchBytes& scratch, const LinearPart& part);
  void attention_by_products(Tensor& out, const Qkv& in, size_t stream, bool causal);
  void flash_attention(std::span<Tensor> out, const Qkv& in, bool causal);
  /// Whether attention that tolerates rounding is done in 8 bits.
  bool codes_attention(const Qkv& in) const;
  void coded_attention(std::span<Tensor> out, const Qkv& in);

  CudaContext& context_;
  Waiting waiting_;
};

}  // namespace inkstone
