#include "core/host_memory.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <sys/mman.h>

namespace inkstone {
namespace {

constexpr size_t kAlignment = 64;              // a cache line, and the widest vector
constexpr size_t kHugePage = size_t{2} << 20;  // from here on straight from the system, on huge pages if it can
constexpr size_t kPage = 4096;
constexpr size_t kAlwaysKept = size_t{64} << 20;  // returned buffers kept however little is in use

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// What is really taken for a request.
size_t block_size(size_t bytes) { return round_up(std::max<size_t>(bytes, 1), bytes < kHugePage ? kAlignment : kPage); }

/// A larger block serves a request if it wastes at most a quarter of it.
size_t largest_fit(size_t size) { return size + size / 4; }

/// Uninitialised memory of a block_size(); nullptr if the system has none.
void* take(size_t size) {
  if (size < kHugePage) return ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
  // A huge page must begin at a multiple of its size: map more and give back what is around it.
  const size_t mapped = size + kHugePage;
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(data);
  auto* const aligned = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<size_t>(begin), kHugePage));
  const auto before = static_cast<size_t>(aligned - begin);
  if (before > 0) munmap(begin, before);
  munmap(aligned + size, kHugePage - before);
  madvise(aligned, size, MADV_HUGEPAGE);  // a wish: without it the same memory costs 512 times the page faults
  return aligned;
}

void give_back(void* data, size_t size) {
  if (size < kHugePage) {
    ::operator delete (data, std::align_val_t{kAlignment});
  } else {
    munmap(data, size);
  }
}

}  // namespace

struct HostMemory::State {
  struct Returned {
    void* data;
    uint64_t when;
  };

  explicit State(size_t limit_bytes) : limit(std::min(limit_bytes, std::numeric_limits<size_t>::max() / 2)) {}
  ~State() {
    for (const auto& [size, block] : returned) give_back(block.data, size);
  }

  /// Bytes that may still be asked for; blocks are a little larger than what was asked, so the limit can be passed.
  size_t room() const { return limit - std::min(limit, in_use); }

  /// Bytes that blocks in use and returned ones may take together.
  size_t bound() const { return std::min(limit, most_ever + most_ever / 2 + kAlwaysKept); }

  /// Gives the longest unused blocks back to the system until `size` more bytes are within the bound.
  void make_room(size_t size) {
    while (!returned.empty() && in_use + kept + size > bound()) {
      const auto oldest = std::min_element(returned.begin(), returned.end(),
                                           [](const auto& a, const auto& b) { return a.second.when < b.second.when; });
      kept -= oldest->first;
      give_back(oldest->second.data, oldest->first);
      returned.erase(oldest);
    }
  }

  /// A returned block that fits well; its size goes to `size`.
  void* reuse(size_t& size) {
    const auto block = returned.lower_bound(size);
    if (block == returned.end() || block->first > largest_fit(size)) return nullptr;
    void* data = block->second.data;
    size = block->first;
    kept -= size;
    returned.erase(block);
    return data;
  }

  void count_as_used(size_t size) {
    in_use += size;
    most = std::max(most, in_use);
    most_ever = std::max(most_ever, in_use);
  }

  void put_back(void* data, size_t size) {
    const std::lock_guard lock(mutex);
    in_use -= size;
    kept += size;
    returned.emplace(size, Returned{data, ++clock});
    make_room(0);
  }

  std::mutex mutex;
  const size_t limit;
  size_t in_use = 0, most = 0, most_ever = 0;
  size_t kept = 0;  // in returned blocks
  std::multimap<size_t, Returned> returned;
  uint64_t clock = 0;
};

namespace {

/// Goes back to its pool, which it keeps alive.
template <class Pool>
struct PooledBuffer final : Buffer {
  PooledBuffer(std::shared_ptr<Pool> owner, void* block, size_t size, size_t bytes_wanted)
      : Buffer(block, bytes_wanted), pool(std::move(owner)), block_bytes(size) {}
  ~PooledBuffer() override { pool->put_back(data, block_bytes); }

  std::shared_ptr<Pool> pool;
  size_t block_bytes;
};

}  // namespace

HostMemory::HostMemory() : HostMemory(available_memory()) {}
HostMemory::HostMemory(size_t limit_bytes) : state_(std::make_shared<State>(limit_bytes)) {}
HostMemory::~HostMemory() = default;

std::shared_ptr<Buffer> HostMemory::allocate(size_t bytes) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  check(bytes <= s.room(), "out of memory: {} bytes are wanted, {} of {} are in use", bytes, s.in_use, s.limit);
  size_t size = block_size(bytes);
  void* data = s.reuse(size);
  if (data == nullptr) {
    s.most_ever = std::max(s.most_ever, s.in_use + size);  // so that room can be made for it
    s.make_room(size);
    data = take(size);
    check(data != nullptr, "out of memory: the system refuses {} bytes; {} of {} are in use", bytes, s.in_use, s.limit);
  }
  s.count_as_used(size);
  return std::make_shared<PooledBuffer<State>>(state_, data, size, bytes);
}

size_t HostMemory::current() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use;
}

size_t HostMemory::peak() const {
  const std::lock_guard lock(state_->mutex);
  return state_->most;
}

void HostMemory::reset_peak() {
  const std::lock_guard lock(state_->mutex);
  state_->most = state_->in_use;
}

}  // namespace inkstone
