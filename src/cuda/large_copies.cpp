#include "cuda/large_copies.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"
#include "core/thread_pool.h"
#include "cuda/cuda_error.h"
#include "ops/upload_slab.h"

namespace inkstone {
namespace {

constexpr size_t kLeast = size_t{1} << 20;  // below, one thread is as fast
constexpr int kMostThreads = 16;            // one copies some 3 GB/s out of the system's cache, a link takes up to 55
constexpr size_t kUnit = 4096;              // of a piece
constexpr size_t kWaiting = 2;              // pieces for each thread: they keep it busy, and end soon

constexpr const char* kUploading = "copying to the device";
constexpr const char* kDownloading = "copying from the device";
constexpr const char* kComputing = "computing";

int thread_count() { return std::min(usable_processors(), kMostThreads); }

void put(const UploadPiece& piece, const std::byte* host, cudaStream_t stream) {
  check_cuda(cudaMemcpyAsync(piece.to, host, piece.bytes, cudaMemcpyHostToDevice, stream), kUploading);
}

}  // namespace

size_t LargeCopies::pinned_bytes() { return static_cast<size_t>(thread_count()) * 2 * kPiece; }

LargeCopies::~LargeCopies() {
  queue_.reset();
  for (const Worker& worker : workers_)
    for (const Room& room : worker.rooms) cudaEventSynchronize(room.done);
  cudaFreeHost(pinned_);
}

LargeCopies::Room& LargeCopies::Worker::next(const char* what) {
  Room& room = rooms[used++ % 2];
  check_cuda(cudaEventSynchronize(room.done), what);
  return room;
}

bool LargeCopies::can_share_out(size_t bytes) { return bytes >= kLeast && prepare(); }

/// At the first large copy: who copies little needs neither threads nor pinned memory.
bool LargeCopies::prepare() {
  if (queue_ != nullptr || is_refused_) return !is_refused_;
  const int threads = thread_count();
  auto queue = std::make_unique<TaskQueue>(threads, static_cast<size_t>(threads) * kWaiting);  // first, as it may fail
  void* memory = nullptr;
  context_.use_device();
  is_refused_ = cudaHostAlloc(&memory, pinned_bytes(), cudaHostAllocDefault) != cudaSuccess;
  if (is_refused_) {
    cudaGetLastError();
    context_.note("the system locks no host memory, so copies to and from the GPU take up to ten times as long");
    return false;
  }
  pinned_ = static_cast<std::byte*>(memory);
  workers_ = std::vector<Worker>(static_cast<size_t>(threads));
  std::byte* next = pinned_;
  for (Worker& worker : workers_)
    for (Room& room : worker.rooms) room.memory = std::exchange(next, next + kPiece);
  queue_ = std::move(queue);
  return true;
}

uint64_t LargeCopies::begin_upload(std::vector<UploadPiece> pieces, cudaStream_t stream) {
  if (!prepare()) {
    for (const UploadPiece& piece : pieces) put(piece, piece.from, stream);
    return 0;
  }
  return queue_->add([this, all = std::move(pieces), stream](int worker) {
    context_.use_device();
    const Room& room = workers_[static_cast<size_t>(worker)].next(kUploading);
    std::byte* next = room.memory;
    for (const UploadPiece& piece : all) {
      std::memcpy(next, piece.from, piece.bytes);
      put(piece, next, stream);
      next += round_up(piece.bytes, kUploadUnit);
    }
    check_cuda(cudaEventRecord(room.done, stream), kUploading);
  });
}

/// Where parts of the same size begin and how long they are, as many for each thread.
std::vector<std::pair<size_t, size_t>> LargeCopies::shares(size_t bytes) const {
  const size_t rounds = divide_up(bytes, workers_.size() * kPiece);
  const size_t size = round_up(divide_up(bytes, workers_.size() * rounds), kUnit);
  std::vector<std::pair<size_t, size_t>> all;
  for (size_t begin = 0; begin < bytes; begin += size) all.emplace_back(begin, std::min(size, bytes - begin));
  return all;
}

void LargeCopies::upload(void* to, const void* from, size_t bytes) {
  const cudaStream_t stream = context_.stream();
  const UploadPiece all = {
      .to = static_cast<std::byte*>(to), .from = static_cast<const std::byte*>(from), .bytes = bytes};
  if (!can_share_out(bytes)) return put(all, all.from, stream);
  for (const auto& [begin, size] : shares(bytes))
    begin_upload({{.to = all.to + begin, .from = all.from + begin, .bytes = size}}, stream);
  queue_->finish();
}

void LargeCopies::download(void* to, const void* from, size_t bytes) {
  const cudaStream_t stream = context_.stream();
  const auto copy = [stream, from](void* host, size_t begin, size_t size) {
    check_cuda(cudaMemcpyAsync(host, static_cast<const std::byte*>(from) + begin, size, cudaMemcpyDeviceToHost, stream),
               kDownloading);
  };
  if (!can_share_out(bytes)) {
    copy(to, 0, bytes);
    return check_cuda(cudaStreamSynchronize(stream), kComputing);
  }
  for (const auto& share : shares(bytes))
    queue_->add([this, &copy, share, stream, to](int worker) {
      context_.use_device();
      const Room& room = workers_[static_cast<size_t>(worker)].next(kDownloading);  // an upload may still read it
      copy(room.memory, share.first, share.second);
      check_cuda(cudaEventRecord(room.done, stream), kDownloading);
      check_cuda(cudaEventSynchronize(room.done), kComputing);
      std::memcpy(static_cast<std::byte*>(to) + share.first, room.memory, share.second);
    });
  queue_->finish();
}

}  // namespace inkstone
