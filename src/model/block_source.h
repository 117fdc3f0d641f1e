// Blocks that need not be in memory all the time.
#pragma once
#include <functional>

#include "ops/weight.h"

namespace inkstone {

/// Gives the weights of block `index`; what it gave before is void then. Models ask for blocks in order, from the first
/// to the last, as often as they run. Absent: blocks are where they were bound.
template <class Block>
using WeightSource = std::function<const Block&(size_t index)>;

/// Calls `visit(Tensor&)` for the tensors of a layer that it has.
void for_each_tensor(Linear& layer, const auto& visit) {
  for (Slab& slab : layer.slabs)
    for (Tensor* tensor : {&slab.weight.data, &slab.weight.scales, &slab.weight.offsets, &slab.bias})
      if (*tensor) visit(*tensor);
}

}  // namespace inkstone
