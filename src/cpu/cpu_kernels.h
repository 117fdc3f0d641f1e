// The CPU's kernels: f32 arithmetic, 8 or 16 bits where that was asked for, work cut into tasks for the device's own
// threads.
#pragma once
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/half_rows.h"
#include "cpu/int8_product.h"
#include "cpu/vector_ops.h"
#include "cpu/worker_scratch.h"
#include "ops/kernels.h"

namespace inkstone {

/// Every method is one family's file in this folder.
class CpuKernels final : public Kernels {
 public:
  /// `pool` must outlive the kernels; `vector` chooses the instruction set, `int8` asks for tolerant layers in 8 bits,
  /// whose rounded weights are kept as far as `keep_bytes` go, or `half` for tolerant linear layers in 16 bits.
  explicit CpuKernels(ThreadPool& pool, const VectorOps& vector = vector_ops(), const Int8Ops* int8 = nullptr,
                      size_t keep_bytes = 0, const HalfOps* half = nullptr)
      : pool_(pool), vector_(vector), int8_(int8), half_(half), scratch_(pool.threads()) {
    if (int8 != nullptr) layers_.emplace(pool, Int8Functions{vector, *int8}, keep_bytes);
  }

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

  /// As those of Device.
  size_t kept_bytes() const { return layers_ ? layers_->bytes() : 0; }
  void keep_at_most(size_t bytes) {
    if (layers_) layers_->keep_at_most(bytes);
    scratch_.release_shared();
  }
  /// Of activations and kernels in 8 bits, beside the pool: the most that a call took.
  size_t shared_bytes() const { return scratch_.shared_bytes(); }
  size_t step_bytes(std::span<const LinearPart> parts) const;
  size_t conv_bytes(const Shape& x, const Conv2d& conv) const;
  size_t attention_bytes(const Qkv& tolerant) const;
  Kept kept_of(std::span<const Linear* const> layers, const KeepRoom& room) const;

 private:
  /// factor * x downᵀ of the side branches of a call, which its layers' products read: multiplied in one go before
  /// them, since each alone is too small for all workers.
  struct LowRank {
    std::vector<MatrixProduct> exact;
    std::vector<Int8Product> rounded;
    std::vector<std::pair<std::span<float>, float>> numbers;  // results or their scales, and the factors still to apply
    Epilogue nothing;                                         // of all of them
    std::deque<Int8Packed> in_place;                          // the layers' own weights, read where they lie
  };

  /// All of conv2d() but the norm behind it.
  void convolve(const Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual);
  bool uses_int8(const Linear* layer) const;
  bool uses_half(const Linear* layer) const { return half_ != nullptr && layer->tolerance != nullptr; }
  /// A product for each slab of a tolerant layer. They read what is added to `memory` and `low`.
  std::vector<Int8Product> int8_products(const LinearPart& part, Tensor& out, std::vector<Tensor>& memory,
                                         LowRank& low);
  /// (rows, rank) of a branch beside a layer that multiplies x, still to be multiplied.
  static Tensor add_low_rank(const LeftMatrix& x, int64_t rows, const SideBranch& branch, LowRank& low);
  /// The same in 8 bits, in `memory` that it makes: the term to add to the layer's. `kept` may be null.
  static Int8Term add_low_rank(const Int8Term& layer, int64_t rows, const SideBranch& branch,
                               const Int8Slab::Branch* kept, Tensor& memory, LowRank& low);
  void multiply(const LowRank& low);
  /// Whether a result that feeds `layer` is written in 8 bits.
  bool rounds_for(const Linear* layer, const Tensor& out) const;
  /// Whether attention is computed in 8 bits.
  bool rounds(const Qkv& in, const AttentionOptions& options) const;
  /// Writes codes where the results feed layers that want them.
  void attend_in_int8(std::span<Tensor> out, const Qkv& in, std::span<const Linear* const> feeds);
  /// Makes a result a tensor of I8 in the same memory.
  static Int8Rows as_int8(Tensor& tensor);
  /// Activations in 8 bits, in `memory` that it makes.
  Int8Rows rounded(const Tensor& x, const Int8Factors& factors, Tensor& memory);
  /// The same in 16 bits.
  HalfRows in_halves(const Tensor& x, Tensor& memory);

  ThreadPool& pool_;
  const VectorOps& vector_;
  const Int8Ops* int8_;
  const HalfOps* half_;
  WorkerScratch scratch_;
  std::optional<Int8Layers> layers_;  // with int8_
};

}  // namespace inkstone
