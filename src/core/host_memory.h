// A pool of host memory with a bound and a high-water mark.
#pragma once
#include <memory>

#include "core/tensor.h"

namespace inkstone {

/// Hands out buffers aligned to 64 bytes and keeps returned ones for reuse, so that the results of a step do not cost
/// page faults each time. Thread-safe. Buffers may outlive the pool object.
class HostMemory {
 public:
  /// Bounded by what the machine and the container have available now (see available_memory()).
  HostMemory();
  explicit HostMemory(size_t limit_bytes);
  ~HostMemory();

  /// Throws Error naming the bytes wanted, in use and available.
  std::shared_ptr<Buffer> allocate(size_t bytes);

  size_t current() const;  ///< bytes in use
  size_t peak() const;     ///< most bytes in use since the last reset
  void reset_peak();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Bytes that this process may still take: the least of free physical memory and the control groups' limits.
size_t available_memory();

/// Bytes of this process in physical memory, mapped clean file pages left out; 0 where the system does not tell.
size_t resident_memory();

}  // namespace inkstone
