// What all kernels of one CUDA device share: its stream, its memory, cuBLAS, and small tables.
#pragma once
#include <array>
#include <functional>
#include <list>
#include <mutex>
#include <set>
#include <vector>

#include "core/memory_pool.h"
#include "cuda/cublas.h"
#include "cuda/cuda_device.h"
#include "cuda/handles.h"
#include "cuda/launch.h"

namespace inkstone {

class CudaContext {
 public:
  /// Throws Error if there is no such device, it is too old, or cuBLAS is missing.
  explicit CudaContext(const CudaOptions& options);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  /// Where kernels go: what is put into it runs in order, so memory may be given back while kernels still use it. Makes
  /// the device this thread's current one.
  cudaStream_t stream();
  /// Makes the device this thread's current one.
  void use_device() const;
  /// Work to be put into the stream before anything else is, unless it is forgotten first.
  void defer(std::function<void()> work) { deferred_ = std::move(work); }
  void forget_deferred() { deferred_ = nullptr; }
  /// To be called whenever something is about to be put into the stream; null: nothing.
  void set_before_work(std::function<void()> call) { before_work_ = std::move(call); }
  /// Where copies go that run beside it.
  cudaStream_t copy_stream() const { return copy_stream_; }

  /// While it lives, what is put into the stream inside aside() runs beside what is put there otherwise, but after all
  /// that was there before. The two meet when anything else is put into the stream, or what was made aside is wanted
  /// there.
  class Apart {
   public:
    explicit Apart(CudaContext& context);
    ~Apart() { context_.stays_apart_ = context_.is_aside_ = false; }
    Apart(const Apart&) = delete;
    Apart& operator=(const Apart&) = delete;

    /// Work that reads and makes these tensors. Nobody else gets their memory, or what it allocates, until both meet.
    template <class Work>
    void aside(const Work& work, const std::vector<Tensor>& reads, const std::vector<Tensor>& makes) {
      for (const Tensor& tensor : reads)
        if (tensor) context_.held_.push_back(tensor.buffer());
      for (const Tensor& tensor : makes) context_.hold(tensor);
      context_.is_aside_ = true;
      work();
      context_.is_aside_ = false;
    }

   private:
    CudaContext& context_;
  };
  /// Whether there is work aside that nobody has waited for.
  bool is_forked() const { return is_forked_; }
  /// Both meet now if one of the tensors was made aside, unless this is work aside as well.
  void meet_for(const std::vector<Tensor>& tensors);

  /// From here on what is put into the stream is recorded instead of done, the tables that it uses go to `used`.
  void begin_capture(std::vector<Tensor>& used);
  /// The record, which is the caller's; null if the driver could not record something.
  cudaGraph_t end_capture();

  /// Something for Device::take_notes(). Thread-safe.
  void note(std::string text);
  std::vector<std::string> take_notes();

  MemoryPool& memory() { return memory_; }
  const MemoryPool& memory() const { return memory_; }
  Tensor empty(const Shape& shape, DType type);
  /// Puts a product into the stream.
  void multiply(const Product& product) { cublas_.multiply(product, stream(), workspace()); }

  /// A copy of `values` on the device, kept for the next call with the same: sequences differ little between steps.
  /// Throws Error while work with values of its own is recorded.
  const int32_t* table(const std::vector<int32_t>& values);

  bool narrow() const { return arithmetic_ != CudaArithmetic::f32; }
  /// Products of layers that tolerate rounding have operands in E4M3.
  bool rounds() const { return arithmetic_ == CudaArithmetic::fp8 || rounds_attention(); }
  /// So may attention be.
  bool rounds_attention() const { return arithmetic_ == CudaArithmetic::fp8_all; }
  CudaArithmetic arithmetic() const { return arithmetic_; }
  /// What products read.
  DType operand_type() const { return narrow() ? DType::bf16 : DType::f32; }
  /// What a result is held in that only products read, or that another op splits.
  DType operand_or(DType other) const { return narrow() ? DType::bf16 : other; }

  /// Kernels with Hopper's instructions.
  bool has_wgmma() const { return has_wgmma_; }
  const std::string& description() const { return description_; }

 private:
  struct Table {
    std::vector<int32_t> values;
    Tensor copy;
  };

  void* workspace();
  void meet();
  void hold(const Tensor& made);

  int index_;
  CudaArithmetic arithmetic_;
  std::string description_;
  bool has_wgmma_ = false;
  MemoryPool memory_;
  CudaStream stream_, side_stream_, copy_stream_;
  CudaEvent forked_, done_aside_;
  std::function<void()> deferred_, before_work_;
  bool is_aside_ = false, is_forked_ = false, stays_apart_ = false;
  std::vector<std::shared_ptr<Buffer>> held_;  // by work aside, until the streams meet
  size_t held_bytes_ = 0;                      // of what was made there
  std::set<const Buffer*> made_aside_;
  Cublas cublas_;
  std::array<std::shared_ptr<Buffer>, 2> workspaces_;  // of products, for each stream that had some
  std::list<Table> tables_;                            // the last used first
  std::vector<Tensor>* used_tables_ = nullptr;         // while work is recorded
  std::mutex notes_mutex_;
  std::vector<std::string> notes_;
};

}  // namespace inkstone
