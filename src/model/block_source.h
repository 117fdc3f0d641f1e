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
  for (Tensor* tensor : {&weight.data, &weight.scales, &weight.offsets, &weight.factors})
    if (*tensor) visit(*tensor);
}

/// The same for a layer: like tensors of its slabs one after the other, so that they can be read as one.
void for_each_tensor(Linear& layer, const auto& visit) {
  for (Tensor Weight::*tensor : {&Weight::data, &Weight::scales, &Weight::offsets, &Weight::factors})
    for (Slab& slab : layer.slabs)
      if (slab.weight.*tensor) visit(slab.weight.*tensor);
  for (Slab& slab : layer.slabs)
    if (slab.bias) visit(slab.bias);
  for (Slab& slab : layer.slabs)
    for (SideBranch& branch : slab.branches)
      for (Weight* half : {&branch.down, &branch.up}) for_each_tensor(*half, visit);
}

}  // namespace inkstone
