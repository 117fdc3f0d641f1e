#include "cuda/large_copies.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"
#include "cuda/cuda_error.h"

namespace inkstone {
namespace {

constexpr size_t kLeast = size_t{1} << 20;  // below, one thread is as fast
constexpr size_t kPiece = size_t{2} << 20;  // at most
constexpr int kThreads = 16;                // one copies some 3 GB/s out of the system's cache, a link takes up to 55
constexpr size_t kUnit = 4096;              // of a piece

}  // namespace

LargeCopies::~LargeCopies() {
  for (const Worker& worker : workers_)
    for (const Piece& piece : worker.pieces) {
      cudaEventSynchronize(piece.done);
      cudaEventDestroy(piece.done);
    }
  cudaFreeHost(pinned_);
}

bool LargeCopies::can_share_out(size_t bytes) { return bytes >= kLeast && !is_refused_ && prepare(); }

/// At the first large copy: who copies little needs neither threads nor pinned memory.
bool LargeCopies::prepare() {
  if (pinned_ != nullptr) return true;
  const int threads = std::min(usable_processors(), kThreads);
  void* memory = nullptr;
  context_.stream();  // makes its device the current one
  is_refused_ = cudaHostAlloc(&memory, static_cast<size_t>(threads) * 2 * kPiece, cudaHostAllocDefault) != cudaSuccess;
  if (is_refused_) {
    cudaGetLastError();
    context_.note("the system locks no host memory, so copies to and from the GPU take up to ten times as long");
    return false;
  }
  pinned_ = static_cast<std::byte*>(memory);
  workers_.resize(static_cast<size_t>(threads));
  std::byte* next = pinned_;
  for (Worker& worker : workers_)
    for (Piece& piece : worker.pieces) {
      piece.memory = std::exchange(next, next + kPiece);
      check_cuda(cudaEventCreateWithFlags(&piece.done, cudaEventDisableTiming), "making an event");
    }
  threads_.emplace(threads);
  return true;
}

/// Pieces of the same size, as many for each thread.
void LargeCopies::share_out(size_t bytes, const CopyPiece& copy) {
  const size_t rounds = divide_up(bytes, workers_.size() * kPiece);
  const size_t size = round_up(divide_up(bytes, workers_.size() * rounds), kUnit);
  threads_->run(static_cast<int64_t>(divide_up(bytes, size)), [&](int64_t index, int worker) {
    context_.use_device();
    const size_t begin = static_cast<size_t>(index) * size;
    copy(workers_[static_cast<size_t>(worker)], begin, std::min(size, bytes - begin));
  });
}

void LargeCopies::upload(void* to, const void* from, size_t bytes) {
  const cudaStream_t stream = context_.stream();
  const auto copy = [stream, to](const void* host, size_t begin, size_t size) {
    check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(to) + begin, host, size, cudaMemcpyHostToDevice, stream),
               "copying to the device");
  };
  if (!can_share_out(bytes)) return copy(from, 0, bytes);
  share_out(bytes, [&](Worker& worker, size_t begin, size_t size) {
    const Piece& piece = worker.next();
    check_cuda(cudaEventSynchronize(piece.done), "copying to the device");
    std::memcpy(piece.memory, static_cast<const std::byte*>(from) + begin, size);
    copy(piece.memory, begin, size);
    check_cuda(cudaEventRecord(piece.done, stream), "copying to the device");
  });
}

void LargeCopies::download(void* to, const void* from, size_t bytes) {
  const cudaStream_t stream = context_.stream();
  const auto copy = [stream, from](void* host, size_t begin, size_t size) {
    check_cuda(cudaMemcpyAsync(host, static_cast<const std::byte*>(from) + begin, size, cudaMemcpyDeviceToHost, stream),
               "copying from the device");
  };
  if (!can_share_out(bytes)) {
    copy(to, 0, bytes);
    return check_cuda(cudaStreamSynchronize(stream), "computing");
  }
  share_out(bytes, [&](Worker& worker, size_t begin, size_t size) {
    const Piece& piece = worker.next();
    check_cuda(cudaEventSynchronize(piece.done), "copying from the device");  // an upload may still read it
    copy(piece.memory, begin, size);
    check_cuda(cudaEventRecord(piece.done, stream), "copying from the device");
    check_cuda(cudaEventSynchronize(piece.done), "computing");
    std::memcpy(static_cast<std::byte*>(to) + begin, piece.memory, size);
  });
}

}  // namespace inkstone
