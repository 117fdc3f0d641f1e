// Side branches taken into the weights that they stand beside.
#pragma once
#include "cuda/context.h"
#include "ops/weight.h"

namespace inkstone {

/// Adds to `numbers` (out, in) f32 what a slab's side branches add to its matrix.
void add_branches(CudaContext& context, const Tensor& numbers, const Slab& slab);

/// A slab's matrix with its side branches: f32, but as it is held if it is f32, f16 or bf16 and has none.
Tensor merged_numbers(CudaContext& context, const Slab& slab);

/// Puts that in bf16 into `to`, which may be where the slab's matrix is: what is smaller than the last digit of a
/// weight rounds up as often as it should, so that it is not lost. An error in each weight like that of rounding it
/// once.
void put_with_branches(CudaContext& context, const Tensor& to, const Slab& slab);

/// Which matrices take side branches in: those that products read as they are, or all, which become like them.
enum class Merged : uint8_t { dense, all };

/// Whether merge_branches() would take anything in, and what bytes of matrices and branches are left then.
bool can_merge(const CudaContext& context, const Linear& layer, Merged which);
size_t merged_bytes(const CudaContext& context, const Linear& layer, Merged which);

/// Takes side branches into the matrices that they stand beside: put_with_branches(), or in f32.
void merge_branches(CudaContext& context, Linear& layer, Merged which);

}  // namespace inkstone
