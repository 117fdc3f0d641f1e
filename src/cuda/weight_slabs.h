// Memory for weights that stay as they were uploaded.
#pragma once
#include <vector>

#include "cuda/context.h"

namespace inkstone {

/// Blocks of the pool come in units of 2 MiB: one for each matrix, and for the scales beside it, would waste a ninth of
/// a model in 4 bits. Here several tensors share a block, which goes back to the pool with the last of them.
class WeightSlabs {
 public:
  explicit WeightSlabs(CudaContext& context) : context_(context) {}

  /// Uninitialised. In a slab if a block of the pool would be larger than the tensor.
  Tensor empty(const Shape& shape, DType type);
  /// The weights to come are let go at another time than those before.
  void close() { slabs_.clear(); }

 private:
  struct Slab {
    std::weak_ptr<Buffer> memory;  // weights alone keep it
    size_t used = 0;
  };

  CudaContext& context_;
  std::vector<Slab> slabs_;
};

}  // namespace inkstone
