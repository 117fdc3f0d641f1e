#include "cuda/merged_layer.h"

#include <algorithm>

#include "cuda/joined_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

Tensor widened(CudaContext& context, const Weight& w) {
  if (w.format == WeightFormat::f32) return w.data;
  const Tensor wide = context.empty({w.out, w.in}, DType::f32);
  cuda::expand(output(wide), matrix(w), w.out, context.stream());
  return wide;
}

bool lies_ready(const CudaContext& context, const Weight& w) {
  return w.format == dense_format(context.operand_type());
}

bool can_merge(const CudaContext& context, const Slab& slab, Merged which) {
  return !slab.branches.empty() && (which == Merged::all || lies_ready(context, slab.weight));
}

void merge_branches(CudaContext& context, Slab& slab) {
  const Weight& w = slab.weight;
  const Tensor to = lies_ready(context, w) ? w.data : context.empty({w.out, w.in}, context.operand_type());
  if (context.narrow()) {
    put_with_branches(context, to, slab);
  } else {
    if (!lies_ready(context, w)) cuda::expand(output(to), matrix(w), w.out, context.stream());
    add_branches(context, to, slab);
  }
  slab.weight = dense_weight(to);
  slab.branches.clear();
}

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

Tensor merged_numbers(CudaContext& context, const Slab& slab) {
  const Weight& w = slab.weight;
  const bool is_plain =
      w.format == WeightFormat::f32 || w.format == WeightFormat::f16 || w.format == WeightFormat::bf16;
  if (is_plain && slab.branches.empty()) return w.data;
  const Tensor all = context.empty({w.out, w.in}, DType::f32);
  cuda::expand(output(all), matrix(w), w.out, context.stream());
  add_branches(context, all, slab);
  return all;
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

bool can_merge(const CudaContext& context, const Linear& layer, Merged which) {
  return std::ranges::any_of(layer.slabs, [&](const Slab& slab) { return can_merge(context, slab, which); });
}

size_t merged_bytes(const CudaContext& context, const Linear& layer, Merged which) {
  size_t bytes = 0;
  for (const Slab& slab : layer.slabs) {
    if (can_merge(context, slab, which)) {
      bytes += static_cast<size_t>(slab.weight.out * slab.weight.in) * size_of(context.operand_type());
      continue;
    }
    bytes += bytes_of(slab.weight);
    for (const SideBranch& branch : slab.branches) bytes += bytes_of(branch.down) + bytes_of(branch.up);
  }
  return bytes;
}

void merge_branches(CudaContext& context, Linear& layer, Merged which) {
  for (Slab& slab : layer.slabs)
    if (can_merge(context, slab, which)) merge_branches(context, slab);
  if (which == Merged::all) join_slabs(context, layer);
  check_launch("adding side branches to weights");
}

}  // namespace inkstone
