// Linear layers of several matrices as one product.
#pragma once
#include "cuda/context.h"
#include "ops/weight.h"

namespace inkstone {

/// Whether tensors are all there and can be rows of one.
bool are_alike(const std::vector<Tensor*>& tensors);

/// Moves such tensors one below the other: `empty(shape, type)` gives memory for all, `copy(to, from)` fills a part of
/// it.
void lay_as_one(const std::vector<Tensor*>& tensors, const auto& empty, const auto& copy) {
  const Tensor& first = *tensors.front();
  int64_t rows = 0, begin = 0;
  for (const Tensor* t : tensors) rows += t->dim(0);
  const Tensor all = empty(first.shape().with_first(rows), first.dtype());
  for (Tensor* t : tensors) {
    const Tensor part = all.rows(begin, begin + t->dim(0));
    begin += t->dim(0);
    copy(part, *t);
    *t = part;
  }
}

/// Whether all matrices of a layer are plain numbers, so that they can be rows of one.
bool are_dense(const Linear& layer);

/// Lays dense matrices of a layer one below the other in memory, and so its biases.
void join_slabs(CudaContext& context, Linear& layer);

/// All matrices of a layer (out, in), as numbers that products read: where they lie if they lie so, else a copy. Side
/// branches, which only bf16 operands may have here, are added to it.
Tensor joined_weights(CudaContext& context, const Linear& layer);

/// Bytes of one tensor of the device to another of its size, in the order of the stream.
void copy_weights(CudaContext& context, const Tensor& to, const Tensor& from);

/// One tensor that is all of them, one behind the other, if they lie so: (sum of first sizes, ...); else absent.
Tensor seen_as_one(const std::vector<Tensor>& tensors);

/// Where all biases of a layer (out) can lie, and perhaps do; absent if no slab has one.
Tensor room_for_bias(CudaContext& context, const Linear& layer, DType type);

/// Puts them there, zeros for a slab without one.
void put_bias(CudaContext& context, const Tensor& room, const Linear& layer);

/// Both.
Tensor joined_bias(CudaContext& context, const Linear& layer, DType type);

/// The same, kept in bf16 by layers that tolerate rounding: a conversion in every call is a launch each.
Tensor kept_bias(CudaContext& context, const Linear& layer, DType type);

}  // namespace inkstone
