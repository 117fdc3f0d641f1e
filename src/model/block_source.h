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
  const auto visit_present = [&](Tensor& tensor) {
    if (tensor) visit(tensor);
  };
  const auto visit_weight = [&](Weight& weight) {
    for (Tensor* tensor : {&weight.data, &weight.scales, &weight.offsets}) visit_present(*tensor);
  };
  for (Slab& slab : layer.slabs) {
    visit_weight(slab.weight);
    visit_present(slab.bias);
    for (SideBranch& branch : slab.branches)
      for (Weight* half : {&branch.down, &branch.up}) visit_weight(*half);
  }
}

}  // namespace inkstone
