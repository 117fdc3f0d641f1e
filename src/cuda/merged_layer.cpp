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
    const Tensor sums = context.empty({slab.weight.out, slab.weight.in}, DType::f32);
    cuda::convert(output(sums), numbers(slab.weight.data), sums.count(), context.stream());
    add_branches(context, sums, slab);
    cuda::round_by_chance(slab.weight.data.data<void>(), sums.data<float>(), sums.count(), context.stream());
    slab.branches.clear();
  }
  check_launch("adding side branches to weights");
}

}  // namespace inkstone
