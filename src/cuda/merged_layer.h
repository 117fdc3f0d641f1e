// Side branches taken into the weights that they stand beside.
#pragma once
#include "cuda/context.h"
#include "ops/weight.h"

namespace inkstone {

/// Adds to `numbers` (out, in) f32 what a slab's side branches, at least one, add to its matrix.
void add_branches(CudaContext& context, const Tensor& numbers, const Slab& slab);

/// The same in bf16, in `to`, which may be where the slab's matrix is: what is smaller than the last digit of a weight
/// rounds up as often as it should, so that it is not lost. An error in each weight like that of rounding it once.
void put_with_branches(CudaContext& context, const Tensor& to, const Slab& slab);

/// Whether merge_branches() would take anything in, and what bytes of matrices and branches are left then.
bool can_merge(const Linear& layer);
size_t merged_bytes(const Linear& layer);

/// Takes the side branches beside dense bf16 matrices into them: put_with_branches().
void merge_branches(CudaContext& context, Linear& layer);

}  // namespace inkstone
