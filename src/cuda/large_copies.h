// Large tensors between host memory and the device at the link's speed.
#pragma once
#include <optional>

#include "core/thread_pool.h"
#include "cuda/context.h"

namespace inkstone {

/// A copy from or to host memory that is not pinned goes through a buffer of the driver that one thread fills, at a
/// tenth of the link's speed; and it takes as long to have memory pinned as to copy it. Here some threads copy pieces
/// to or from pinned buffers of their own.
class LargeCopies {
 public:
  explicit LargeCopies(CudaContext& context) : context_(context) {}
  ~LargeCopies();
  LargeCopies(const LargeCopies&) = delete;
  LargeCopies& operator=(const LargeCopies&) = delete;

  /// Into the context's stream. The host's bytes are read when it returns.
  void upload(void* to, const void* from, size_t bytes);
  /// After all work in the context's stream, for which it waits.
  void download(void* to, const void* from, size_t bytes);

 private:
  /// A worker's, of which it has two.
  struct Piece {
    std::byte* memory = nullptr;
    cudaEvent_t done = nullptr;
  };
  struct Worker {
    Piece pieces[2];
    size_t used = 0;

    Piece& next() { return pieces[used++ % 2]; }
  };
  using CopyPiece = std::function<void(Worker& worker, size_t begin, size_t bytes)>;

  bool can_share_out(size_t bytes);
  bool prepare();
  void share_out(size_t bytes, const CopyPiece& copy);

  CudaContext& context_;
  std::optional<ThreadPool> threads_;
  std::byte* pinned_ = nullptr;
  std::vector<Worker> workers_;
  bool is_refused_ = false;  // the system pins no more
};

}  // namespace inkstone
