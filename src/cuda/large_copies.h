// Large tensors between host memory and the device by many threads, as one would leave most of the link idle.
#pragma once
#include <memory>
#include <vector>

#include "core/task_queue.h"
#include "cuda/context.h"

namespace inkstone {

/// Bytes on their way to the device, and who keeps both ends until they are there.
struct UploadPiece {
  std::shared_ptr<Buffer> to_owner, from_owner;
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t bytes = 0;
};

/// A copy from or to host memory that is not pinned goes through a buffer of the driver that one thread fills, at a
/// tenth of the link's speed; and it takes as long to have memory pinned as to copy it. Here some threads copy pieces
/// to or from pinned buffers of their own, each the next of a queue.
class LargeCopies {
 public:
  /// Bytes at most: smaller pieces take longer (docs/performance-cuda-history.md).
  static constexpr size_t kPiece = size_t{2} << 20;

  explicit LargeCopies(CudaContext& context) : context_(context) {}
  ~LargeCopies();
  LargeCopies(const LargeCopies&) = delete;
  LargeCopies& operator=(const LargeCopies&) = delete;

  /// Host memory that is pinned at the first large copy.
  static size_t pinned_bytes();

  /// Into the context's stream. The host's bytes are read when it returns.
  void upload(void* to, const void* from, size_t bytes);
  /// After all work in the context's stream, for which it waits.
  void download(void* to, const void* from, size_t bytes);

  /// Puts copies of at most kPiece bytes in all into a stream, soon: once queue() says that this number has ended.
  /// Throws Error that an earlier one met; who waited behind it is dropped.
  uint64_t begin_upload(std::vector<UploadPiece> pieces, cudaStream_t stream);
  bool has_begun(uint64_t number) { return queue_ == nullptr || queue_->has_ended(number); }
  void await_begun(uint64_t number) {
    if (queue_ != nullptr) queue_->wait(number);
  }

 private:
  /// A worker's, of which it has two.
  struct Room {
    std::byte* memory = nullptr;
    CudaEvent done;
  };
  struct Worker {
    Room rooms[2];
    size_t used = 0;

    /// Once nobody reads or writes it any more.
    Room& next(const char* what);
  };

  bool can_share_out(size_t bytes);
  bool prepare();
  std::vector<std::pair<size_t, size_t>> shares(size_t bytes) const;

  CudaContext& context_;
  std::byte* pinned_ = nullptr;
  std::vector<Worker> workers_;
  bool is_refused_ = false;           // the system pins no more
  std::unique_ptr<TaskQueue> queue_;  // its end waits for its threads, so it must come first
};

}  // namespace inkstone
