// The pool of host memory, and what of it there is.
#pragma once
#include "core/memory_pool.h"

namespace inkstone {

/// Buffers aligned to 64 bytes, large ones on huge pages where the system has them.
class HostMemory : public MemoryPool {
 public:
  enum class Backing : uint8_t {
    system,
    spread,  ///< large buffers on all memory nodes in turns: for what every worker reads
    none,    ///< buffers without memory, handed out and kept alike: tells what a run would hold
  };

  /// Bounded by what the machine and the container have available now (see available_memory()).
  HostMemory();
  explicit HostMemory(size_t limit_bytes, Backing backing = Backing::system);
};

/// Bytes that this process may still take: the least of free physical memory and the control groups' limits.
size_t available_memory();

/// Bytes of this process in physical memory, mapped clean file pages left out; 0 where the system does not tell.
size_t resident_memory();

/// Bytes of file pages that this process has mapped and in physical memory; 0 where the system does not tell.
size_t mapped_memory();

}  // namespace inkstone
