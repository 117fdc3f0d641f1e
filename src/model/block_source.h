// Blocks that need not be in memory all the time.
#pragma once
#include <functional>

#include "ops/weight.h"

namespace inkstone {

/// Gives the weights of block `index`; what it gave before is void then. Models ask for blocks in order, from the first
/// to the last, as often as they run. Absent: blocks are where they were bound.
template <class Block>
using WeightSource = std::function<const Block&(size_t index)>;

}  // namespace inkstone
