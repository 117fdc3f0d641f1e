// A model's weights on their way to the device, as one stream of pieces.
#pragma once
#include <deque>
#include <optional>

#include "cuda/large_copies.h"
#include "cuda/weight_slabs.h"
#include "ops/weight.h"

namespace inkstone {

/// Whether a layer's tensors are what products read until the end, or the device makes others of them.
enum class Stay : uint8_t { as_uploaded, until_changed };

/// While weights are bound, nobody waits for a tensor: threads copy pieces of all of them, one behind the other, into
/// the copy stream. What is to be made of them on the device follows in the context's stream, beside later copies. Ends
/// by itself before anything else is put into that stream.
class WeightUploads {
 public:
  WeightUploads(CudaContext& context, LargeCopies& copies) : context_(context), copies_(copies), slabs_(context) {}
  ~WeightUploads() { context_.set_before_work(nullptr); }
  WeightUploads(const WeightUploads&) = delete;
  WeightUploads& operator=(const WeightUploads&) = delete;

  /// A copy on the device. The host's bytes must stay as they are until finish().
  Tensor upload(const Tensor& host);
  /// Of all of a layer's tensors: its dense matrices, their scales and its biases one below the other.
  void upload(Linear& layer, Stay stay);
  /// Has `work` put kernels into the context's stream that read what was uploaded so far; at once if that is there. Who
  /// wants their results for such work asks for their memory before. `work` must keep all that it reads.
  void then(std::function<void()> work);
  /// All copies and all such work are queued, and no host bytes are read any more.
  void finish();
  /// The same, of all of a model's weights.
  void finish_model();

 private:
  struct Later {
    uint64_t after = 0;  // this number of LargeCopies
    std::function<void()> work;
  };
  /// Work that is queued: no copy may have its memory before it has ended.
  struct Queued {
    Queued(std::function<void()> keeps, MemoryPool& pool) : work(std::move(keeps)), used(pool) {}
    std::function<void()> work;
    PoolReserve used;
  };

  void begin();
  void copy(const Tensor& to, const Tensor& from);
  void flush();
  void begin_next();
  void finish_all();
  void close();
  template <class Work>
  void or_close(const Work& work);

  CudaContext& context_;
  LargeCopies& copies_;
  WeightSlabs slabs_;
  bool is_open_ = false, is_working_ = false;
  std::vector<UploadPiece> pieces_;  // of the next copy
  size_t taken_ = 0;                 // of its buffer
  uint64_t last_ = 0;
  std::deque<Later> later_;
  std::optional<Queued> queued_;
  CudaEvent copied_, worked_;
};

}  // namespace inkstone
