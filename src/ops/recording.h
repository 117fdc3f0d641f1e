// What a device that queues its work can do again without being told op by op.
#pragma once
#include <functional>
#include <span>

#include "core/tensor.h"

namespace inkstone {

/// Ops on some inputs, and their result. It neither uploads nor downloads.
using RecordedWork = std::function<Tensor(std::span<const Tensor> inputs)>;

class Recording {
 public:
  virtual ~Recording() = default;

  /// Queues the work again, on the numbers of inputs of the same shapes and types. The result is void at the next call.
  virtual Tensor replay(std::span<const Tensor> inputs) = 0;
};

}  // namespace inkstone
