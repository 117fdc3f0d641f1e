// Counts what ops allocate beside their results, for plans of memory.
#pragma once
#include "core/memory_pool.h"

namespace inkstone {

class ScratchBytes {
 public:
  explicit ScratchBytes(const MemoryPool& pool) : pool_(pool) {}

  void add(const Shape& shape, DType type) {
    bytes_ += pool_.block_size(static_cast<size_t>(shape.count()) * size_of(type));
  }
  size_t bytes() const { return bytes_; }

 private:
  const MemoryPool& pool_;
  size_t bytes_ = 0;
};

}  // namespace inkstone
