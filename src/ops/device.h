// A place where tensors live and kernels run.
#pragma once
#include <memory>
#include <string>

#include "ops/kernels.h"

namespace inkstone {

/// What a device's memory pool has handed out. Mapped weight files are not counted.
struct MemoryUse {
  size_t current = 0;
  size_t peak = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;      ///< "cpu", "reference", ...
  virtual std::string describe() const = 0;  ///< for --verbose: instruction set, threads, libraries
  virtual DType activation_type() const = 0;

  virtual Kernels& kernels() = 0;

  /// Memory for a tensor, from a pool. Throws Error that names bytes wanted and available when there is too little.
  virtual std::shared_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual MemoryUse memory() const = 0;
  virtual void reset_peak() = 0;

  /// A host tensor as the device reads it; the same tensor where the device reads host memory.
  virtual Tensor upload(const Tensor& host) = 0;

  /// Waits for all work, then gives a host tensor. The only call that synchronises.
  virtual Tensor download(const Tensor& tensor) = 0;
};

}  // namespace inkstone
