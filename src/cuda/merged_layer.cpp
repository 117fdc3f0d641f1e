#include "cuda/merged_layer.h"

#include <algorithm>

#include "cuda/views.h"

namespace inkstone {
namespace {

Tensor widened(CudaContext& context, const Weight& w) {
  if (w.format == WeightFormat::f32) return w.data;
  const Tensor wide = context.empty({w.out, w.in}, DType::f32);
  cuda::expand(output(wide), matrix(w), w.out, context.stream());
  return wide;
}

bool can_merge(const Slab& slab) { return !slab.branches.empty() && slab.weight.format == WeightFormat::bf16; }

}  // namespace

void add_branches(CudaContext& context, const Tensor& numbers, const Slab& slab) {
  for (const SideBranch& branch : slab.branches) {
    const Tensor up = widened(context, branch.up), down = widened(context, branch.down);
    context.multiply({.type = DType::f32,
                      .rows = branch.up.out,
                      .outs = branch.down.in,
                      .depth = branch.rank(),
                      .x = {up.data<void>(), branch.rank()},
                      .w = {down.data<void>(), branch.down.in},
                      .upright = true,
                      .d = output(numbers),
                      .d_stride = branch.down.in,
                      .added = numbers.data<void>(),
                      .factor = branch.factor});
  }
}

void put_with_branches(CudaContext& context, const Tensor& to, const Slab& slab) {
  cuda::Matrix from = matrix(slab.weight);
  cuda::Changes changes;
  for (size_t i = 0; i < slab.branches.size(); ++i) {
    const SideBranch& branch = slab.branches[i];
    changes.items[changes.count++] = {matrix(branch.up), matrix(branch.down), branch.factor};
    if (changes.count < cuda::kMaxChanges && i + 1 < slab.branches.size()) continue;
    cuda::expand_changed(to.data<void>(), from, slab.weight.out, changes, context.stream());
    from = matrix(dense_weight(to));
    changes.count = 0;
  }
}

bool can_merge(const Linear& layer) {
  return std::ranges::any_of(layer.slabs, [](const Slab& slab) { return can_merge(slab); });
}

size_t merged_bytes(const Linear& layer) {
  size_t bytes = 0;
  for (const Slab& slab : layer.slabs) {
    bytes += bytes_of(slab.weight);
    if (can_merge(slab)) continue;
    for (const SideBranch& branch : slab.branches) bytes += bytes_of(branch.down) + bytes_of(branch.up);
  }
  return bytes;
}

void merge_branches(CudaContext& context, Linear& layer) {
  for (Slab& slab : layer.slabs) {
    if (!can_merge(slab)) continue;
    put_with_branches(context, slab.weight.data, slab);
    slab.branches.clear();
  }
  check_launch("adding side branches to weights");
}

}  // namespace inkstone
