// Blocks that need not be in memory all the time.
#pragma once
#include <functional>

#include "ops/weight.h"

namespace inkstone {

/// Gives the weights of block `index`; what it gave before is void then. Models ask for blocks in order, from the first
/// to the last, as often as they run. Absent: blocks are where they were bound.
template <class Block>
using WeightSource = std::function<const Block&(size_t index)>;

/// Calls `visit(Tensor&)` for the tensors that a weight has.
void for_each_tensor(Weight& weight, const auto& visit) {
  for (Tensor* tensor : {&weight.data, &weight.scales, &weight.offsets})
    if (*tensor) visit(*tensor);
}

/// The same for a layer.
void for_each_tensor(Linear& layer, const auto& visit) {
  for (Slab& slab : layer.slabs) {
    for_each_tensor(slab.weight, visit);
    if (slab.bias) visit(slab.bias);
    for (SideBranch& branch : slab.branches)
      for (Weight* half : {&branch.down, &branch.up}) for_each_tensor(*half, visit);
  }
}

}  // namespace inkstone
