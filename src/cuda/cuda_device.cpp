#include "cuda/cuda_device.h"

#include "cuda/cuda_kernels.h"
#include "cuda/fp8_layer.h"
#include "cuda/joined_layer.h"
#include "cuda/large_copies.h"
#include "cuda/merged_layer.h"
#include "cuda/mixed_layer.h"
#include "cuda/recording.h"
#include "cuda/upload_slab.h"
#include "cuda/views.h"
#include "cuda/weight_uploads.h"

namespace inkstone {
namespace {

/// What is taken beside tensors whatever the size of a picture, so that no plan counts it: two workspaces of cuBLAS,
/// each Cublas::kWorkspaceBytes; a layer's matrices as they are expanded or rounded, of which the text encoder's gate
/// and up are the largest (0.54 GB in f32, half of it in bf16); bands of scores or of a convolution's input, up to 0.1
/// GB, when no such matrix is there; and what work aside holds before its stream meets the other (kMostHeld of
/// context.cpp).
constexpr size_t kScratch = size_t{768} << 20;

std::string_view name_of(CudaArithmetic arithmetic) {
  switch (arithmetic) {
    case CudaArithmetic::f32:
      return "f32";
    case CudaArithmetic::bf16:
      return "bf16";
    case CudaArithmetic::fp8:
      return "fp8 and bf16";
    case CudaArithmetic::int8:
      return "int8 and bf16";
    case CudaArithmetic::fp8_all:
      return "fp8, 8-bit attention and bf16";
  }
  return {};
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaOptions& options)
      : context_(options), copies_(context_), uploads_(context_, copies_), kernels_(context_) {}

  std::string name() const override { return "cuda"; }
  std::string describe() const override {
    return fmt::format("{}, {} arithmetic", context_.description(), name_of(context_.arithmetic()));
  }
  DType activation_type() const override { return DType::f32; }
  DType narrow_type() const override { return context_.operand_type(); }
  Kernels& kernels() override { return kernels_; }

  std::shared_ptr<Buffer> allocate(size_t bytes) override { return context_.memory().allocate(bytes); }
  MemoryUse memory() const override {
    const MemoryPool& pool = context_.memory();
    return {pool.current(), pool.peak(), pool.blocks_taken(), pool.blocks_given_back()};
  }
  void reset_peak() override { context_.memory().reset_peak(); }
  size_t pool_bytes(size_t bytes) const override { return rounds() ? context_.memory().block_size(bytes) : bytes; }
  size_t step_bytes(std::span<const LinearPart> parts) const override { return kernels_.step_bytes(parts); }
  size_t conv_bytes(const Tensor& x, const Conv2d& conv) const override { return kernels_.conv_bytes(x, conv); }
  size_t attention_bytes(const Qkv& in) const override { return kernels_.attention_bytes(in); }
  std::optional<OwnMemory> own_memory() const override {
    return OwnMemory{.bytes = context_.memory().limit() + kCudaOwnBytes, .unplanned = kCudaOwnBytes + kScratch};
  }

  Tensor upload(const Tensor& host) override {
    const Tensor copy = context_.empty(host.shape(), host.dtype());
    copies_.upload(copy.data<void>(), host.data<const void>(), host.bytes());
    return copy;
  }

  Tensor download(const Tensor& tensor) override {
    const Tensor host = host_tensor(tensor.shape(), tensor.dtype());
    copies_.download(host.data<void>(), tensor.data<const void>(), tensor.bytes());
    return host;
  }

  Tensor upload_weight(const Tensor& host) override { return uploads_.upload(host); }
  void upload_weights(Linear& layer) override { uploads_.upload(layer, stay_of(layer)); }
  void finish_uploads() override { uploads_.finish_model(); }
  size_t upload_memory() const override { return LargeCopies::pinned_bytes(); }

  void round_weights(Linear& layer) override {
    if (in_fp8(layer)) {
      keep_in_fp8(context_, uploads_, layer);
    } else if (in_int8(layer)) {
      keep_mixed(context_, uploads_, layer);
    } else {
      merge_branches(context_, layer, merged());
    }
  }
  std::optional<size_t> rounded_bytes(const Linear& layer) const override {
    if (in_fp8(layer)) return fp8_bytes(layer);
    if (in_int8(layer)) return mixed_bytes(layer);
    return merged_bytes(layer, Merged::dense);
  }
  std::optional<size_t> widened_bytes(const Linear& layer) const override {
    return in_fp8(layer) || in_int8(layer) ? std::nullopt : merged_bytes(layer, Merged::all);
  }
  void widen(bool widens) override { widens_ = widens; }

  std::shared_ptr<Buffer> pinned(std::shared_ptr<Buffer> host) override {
    return pinned_memory(context_, std::move(host));
  }
  std::unique_ptr<UploadSlab> upload_slab(size_t bytes) override { return make_upload_slab(context_, bytes); }

  std::unique_ptr<Recording> record(std::span<const Tensor> inputs, const RecordedWork& work) override {
    return record_work(context_, inputs, work);
  }

  void end_step() override {
    const cudaStream_t stream = context_.stream();
    check_cuda(cudaEventSynchronize(step_end_), "computing");
    check_cuda(cudaEventRecord(step_end_, stream), "computing");
  }

  /// A call begins. What ops of an earlier one gave and no op has read is void.
  void watch(std::stop_token) override { kernels_.forget_waiting(); }

  std::vector<std::string> take_notes() override { return context_.take_notes(); }

  void wait() override { check_cuda(cudaStreamSynchronize(context_.stream()), "computing"); }

 private:
  bool in_fp8(const Linear& layer) const { return context_.rounds() && suits_fp8(layer); }
  bool in_int8(const Linear& layer) const { return suits_mixed(context_, layer); }
  /// Whether layers that tolerate it are rounded.
  bool rounds() const { return context_.rounds() || context_.arithmetic() == CudaArithmetic::int8; }
  Merged merged() const { return widens_ ? Merged::all : Merged::dense; }
  /// Which layers will be rounded is not known before they are uploaded.
  Stay stay_of(const Linear& layer) const {
    return rounds() || can_merge(context_, layer, merged()) ? Stay::until_changed : Stay::as_uploaded;
  }
  /// Nothing if no side branch is taken in.
  std::optional<size_t> merged_bytes(const Linear& layer, Merged which) const {
    return can_merge(context_, layer, which) ? std::optional(inkstone::merged_bytes(context_, layer, which))
                                             : std::nullopt;
  }

  bool widens_ = false;
  CudaContext context_;
  LargeCopies copies_;
  WeightUploads uploads_;
  CudaKernels kernels_;
  CudaEvent step_end_;  // of the last step that was queued
};

}  // namespace

std::unique_ptr<Device> make_cuda_device(const CudaOptions& options) { return std::make_unique<CudaDevice>(options); }

}  // namespace inkstone
