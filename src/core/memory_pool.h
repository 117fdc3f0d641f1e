// A pool of memory blocks with a bound and a high-water mark, whatever kind of memory it is.
#pragma once
#include <memory>
#include <string>

#include "core/tensor.h"

namespace inkstone {

/// Where a pool's blocks come from and go back to.
class BlockSource {
 public:
  virtual ~BlockSource() = default;

  /// What is really taken for a request.
  virtual size_t block_size(size_t bytes) const = 0;
  /// Uninitialised memory of a block_size(); nullptr if there is none. Throws Error if it cannot tell.
  virtual void* take(size_t size) = 0;
  virtual void give_back(void* data, size_t size) = 0;
  /// Whose memory it is, for messages.
  virtual std::string name() const { return "the host"; }
};

/// Hands out buffers and keeps returned ones for reuse, so that the results of a step do not cost the system's time
/// again. Thread-safe. Buffers may outlive the pool object.
class MemoryPool {
 public:
  MemoryPool(std::unique_ptr<BlockSource> source, size_t limit_bytes);

  /// Throws Error naming whose memory it is, and the bytes wanted, in use and available.
  std::shared_ptr<Buffer> allocate(size_t bytes);

  /// What is really taken for a request.
  size_t block_size(size_t bytes) const;

  size_t limit() const;
  size_t current() const;  ///< bytes in use
  size_t peak() const;     ///< most bytes in use since the last reset
  void reset_peak();
  size_t held() const;          ///< bytes in use and in returned buffers
  size_t most_held() const;     ///< since the last reset
  size_t blocks_taken() const;  ///< from the source, ever
  size_t blocks_given_back() const;
  bool was_short() const;  ///< returned buffers, or some of them, were given back only because of the limit

  void set_limit(size_t bytes);
  /// Gives returned buffers back to where they came from.
  void release_unused();

 private:
  friend class PoolReserve;
  struct State;
  std::shared_ptr<State> state_;
};

/// Memory for work that will be done again in the very same places: what is allocated while it is open comes back to it
/// alone, and nobody else gets it until it ends. One at a time is open.
class PoolReserve {
 public:
  explicit PoolReserve(MemoryPool& pool);
  /// What is still in use goes back to the pool when it is returned.
  ~PoolReserve();
  PoolReserve(const PoolReserve&) = delete;
  PoolReserve& operator=(const PoolReserve&) = delete;

  void close();

  struct Blocks;

 private:
  std::shared_ptr<MemoryPool::State> pool_;
  std::shared_ptr<Blocks> blocks_;
};

}  // namespace inkstone
