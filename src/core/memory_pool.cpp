#include "core/memory_pool.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/quantity.h"

namespace inkstone {
namespace {

constexpr size_t kAlwaysKept = size_t{64} << 20;  // returned buffers kept however little is in use

/// A larger block serves a request if it wastes at most a quarter of it.
size_t largest_fit(size_t size) { return size + size / 4; }

}  // namespace

/// Those in use and those returned count as in use of the pool.
struct PoolReserve::Blocks {
  std::multimap<size_t, void*> returned;
  bool has_ended = false;
};

struct MemoryPool::State {
  struct Returned {
    void* data;
    uint64_t when;
  };

  State(std::unique_ptr<BlockSource> blocks, size_t limit_bytes)
      : source(std::move(blocks)), limit(usable(limit_bytes)) {}
  ~State() { make_room_within(0, 0); }

  /// Sums of limits must not overflow.
  static size_t usable(size_t limit_bytes) { return std::min(limit_bytes, std::numeric_limits<size_t>::max() / 4); }

  /// Bytes that may still be asked for; blocks are a little larger than what was asked, so the limit can be passed.
  size_t room() const { return limit - std::min(limit, in_use); }

  /// Bytes that blocks in use and returned ones may take together, were there no limit.
  size_t wanted() const { return most_ever + most_ever / 2 + kAlwaysKept; }

  /// Gives the longest unused blocks back to the system until `size` more bytes are within the limit and that.
  void make_room(size_t size) {
    make_room_within(wanted(), size);
    was_short = was_short || (!returned.empty() && in_use + kept + size > limit);
    make_room_within(limit, size);
  }

  void make_room_within(size_t most_bytes, size_t size) {
    while (!returned.empty() && in_use + kept + size > most_bytes) {
      const auto oldest = std::min_element(returned.begin(), returned.end(),
                                           [](const auto& a, const auto& b) { return a.second.when < b.second.when; });
      kept -= oldest->first;
      source->give_back(oldest->second.data, oldest->first);
      ++blocks_given_back;
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

  /// The same of the open reserve.
  void* reuse_reserved(size_t& size) const {
    if (!open) return nullptr;
    const auto block = open->returned.lower_bound(size);
    if (block == open->returned.end() || block->first > largest_fit(size)) return nullptr;
    void* data = block->second;
    size = block->first;
    open->returned.erase(block);
    return data;
  }

  void count_as_used(size_t size) {
    in_use += size;
    most = std::max(most, in_use);
    most_ever = std::max(most_ever, in_use);
    most_held = std::max(most_held, in_use + kept);
  }

  void put_back(void* data, size_t size, PoolReserve::Blocks* reserve) {
    const std::lock_guard lock(mutex);
    if (reserve != nullptr && !reserve->has_ended) {
      reserve->returned.emplace(size, data);
      return;
    }
    keep(data, size);
    make_room(0);
  }

  void keep(void* data, size_t size) {
    in_use -= size;
    kept += size;
    returned.emplace(size, Returned{data, ++clock});
  }

  void end(PoolReserve::Blocks& reserve) {
    const std::lock_guard lock(mutex);
    reserve.has_ended = true;
    for (const auto& [size, data] : reserve.returned) keep(data, size);
    reserve.returned.clear();
    make_room(0);
  }

  std::string shortage(size_t bytes) const {
    const auto text = [](size_t n) { return quantity(static_cast<double>(n), "B"); };
    return fmt::format("out of memory on {}: {} are wanted, {} of {} are in use", source->name(), text(bytes),
                       text(in_use), text(limit));
  }

  std::mutex mutex;
  const std::unique_ptr<BlockSource> source;
  size_t limit;
  size_t in_use = 0, most = 0, most_ever = 0, most_held = 0;
  size_t kept = 0;  // in returned blocks
  size_t blocks_taken = 0, blocks_given_back = 0;
  bool was_short = false;
  std::multimap<size_t, Returned> returned;
  uint64_t clock = 0;
  std::shared_ptr<PoolReserve::Blocks> open;
};

namespace {

/// Goes back to its pool, which it keeps alive.
template <class Pool>
struct PooledBuffer final : Buffer {
  PooledBuffer(std::shared_ptr<Pool> owner, void* block, size_t size, size_t bytes_wanted)
      : Buffer(block, bytes_wanted), pool(std::move(owner)), reserve(pool->open), block_bytes(size) {}
  ~PooledBuffer() override { pool->put_back(data, block_bytes, reserve.get()); }

  std::shared_ptr<Pool> pool;
  std::shared_ptr<PoolReserve::Blocks> reserve;  // that was open; null: none
  size_t block_bytes;
};

}  // namespace

MemoryPool::MemoryPool(std::unique_ptr<BlockSource> source, size_t limit_bytes)
    : state_(std::make_shared<State>(std::move(source), limit_bytes)) {}

std::shared_ptr<Buffer> MemoryPool::allocate(size_t bytes) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  size_t size = s.source->block_size(bytes);
  if (void* const reserved = s.reuse_reserved(size))
    return std::make_shared<PooledBuffer<State>>(state_, reserved, size, bytes);
  check(bytes <= s.room(), "{}; --memory sets how much may be", s.shortage(bytes));
  void* data = s.reuse(size);
  if (data == nullptr) {
    s.most_ever = std::max(s.most_ever, s.in_use + size);  // so that room can be made for it
    s.make_room(size);
    data = s.source->take(size);
    if (data == nullptr) {
      s.make_room_within(0, 0);  // the kept blocks may be in the way though the bound allows them
      data = s.source->take(size);
    }
    check(data != nullptr, "{}, and the system refuses more; with a smaller --memory less is held there at a time",
          s.shortage(bytes));
    ++s.blocks_taken;
  }
  s.count_as_used(size);
  return std::make_shared<PooledBuffer<State>>(state_, data, size, bytes);
}

size_t MemoryPool::block_size(size_t bytes) const { return state_->source->block_size(bytes); }

size_t MemoryPool::limit() const {
  const std::lock_guard lock(state_->mutex);
  return state_->limit;
}

size_t MemoryPool::current() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use;
}

size_t MemoryPool::peak() const {
  const std::lock_guard lock(state_->mutex);
  return state_->most;
}

void MemoryPool::reset_peak() {
  const std::lock_guard lock(state_->mutex);
  state_->most = state_->in_use;
  state_->most_held = state_->in_use + state_->kept;
}

size_t MemoryPool::held() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use + state_->kept;
}

size_t MemoryPool::most_held() const {
  const std::lock_guard lock(state_->mutex);
  return state_->most_held;
}

size_t MemoryPool::blocks_taken() const {
  const std::lock_guard lock(state_->mutex);
  return state_->blocks_taken;
}

size_t MemoryPool::blocks_given_back() const {
  const std::lock_guard lock(state_->mutex);
  return state_->blocks_given_back;
}

bool MemoryPool::was_short() const {
  const std::lock_guard lock(state_->mutex);
  return state_->was_short;
}

void MemoryPool::set_limit(size_t bytes) {
  const std::lock_guard lock(state_->mutex);
  state_->limit = State::usable(bytes);
  state_->make_room(0);
}

void MemoryPool::release_unused() {
  const std::lock_guard lock(state_->mutex);
  state_->make_room_within(0, 0);
  state_->most_ever = state_->in_use;
}

PoolReserve::PoolReserve(MemoryPool& pool) : pool_(pool.state_), blocks_(std::make_shared<Blocks>()) {
  const std::lock_guard lock(pool_->mutex);
  pool_->open = blocks_;
}

PoolReserve::~PoolReserve() {
  close();
  pool_->end(*blocks_);
}

void PoolReserve::close() {
  const std::lock_guard lock(pool_->mutex);
  if (pool_->open == blocks_) pool_->open = nullptr;
}

}  // namespace inkstone
