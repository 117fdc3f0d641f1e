#include "core/host_memory.h"

#include <algorithm>
#include <new>
#include <sys/mman.h>
#include <utility>

#include "core/memory_nodes.h"
#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector
constexpr size_t kPage = 4096;
constexpr size_t kMapped =
    size_t{64} << 10;  // from here on straight from the system: freed, it is the system's at once
constexpr size_t kHugePage = size_t{2} << 20;  // from here on on huge pages if the system can

/// Fresh pages; nullptr if there are none.
void* map(size_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

class HostBlocks final : public BlockSource {
 public:
  /// Large blocks lie on these memory nodes in turns, if there are several.
  explicit HostBlocks(std::vector<int> nodes = {}) : nodes_(std::move(nodes)) {}

  size_t block_size(size_t bytes) const override {
    return round_up(std::max<size_t>(bytes, 1), bytes < kMapped ? kAlignment : kPage);
  }

  void* take(size_t size) override {
    if (size < kMapped) return ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
    if (size < kHugePage) return map(size);
    // A huge page must begin at a multiple of its size: map more and give back what is around it.
    auto* const begin = static_cast<std::byte*>(map(size + kHugePage));
    if (begin == nullptr) return nullptr;
    auto* const aligned = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<size_t>(begin), kHugePage));
    const auto before = static_cast<size_t>(aligned - begin);
    if (before > 0) munmap(begin, before);
    munmap(aligned + size, kHugePage - before);
    madvise(aligned, size, MADV_HUGEPAGE);  // a wish: without it the same memory costs 512 times the page faults
    if (nodes_.size() > 1) spread_pages(aligned, size, nodes_);  // another wish
    return aligned;
  }

  void give_back(void* data, size_t size) override {
    if (size < kMapped) {
      ::operator delete (data, std::align_val_t{kAlignment});
    } else {
      munmap(data, size);
    }
  }

 private:
  std::vector<int> nodes_;
};

/// Blocks of the same sizes without memory.
class NoBlocks final : public BlockSource {
 public:
  size_t block_size(size_t bytes) const override { return HostBlocks().block_size(bytes); }
  void* take(size_t) override { return &placeholder_; }
  void give_back(void*, size_t) override {}

 private:
  std::byte placeholder_{};
};

std::unique_ptr<BlockSource> blocks(HostMemory::Backing backing) {
  if (backing == HostMemory::Backing::none) return std::make_unique<NoBlocks>();
  return std::make_unique<HostBlocks>(backing == HostMemory::Backing::spread ? memory_nodes() : std::vector<int>());
}

}  // namespace

HostMemory::HostMemory() : HostMemory(available_memory()) {}
HostMemory::HostMemory(size_t limit_bytes, Backing backing) : MemoryPool(blocks(backing), limit_bytes) {}

}  // namespace inkstone
