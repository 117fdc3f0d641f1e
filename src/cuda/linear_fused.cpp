// Linear layers of all streams in one launch, with what follows them inside.
#include <algorithm>
#include <utility>

#include "cuda/cuda_kernels.h"
#include "cuda/fp8_layer.h"
#include "cuda/joined_layer.h"
#include "cuda/mixed_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

constexpr int64_t kLeastFused = 512;  // rows of the largest part: fewer leave most of the GPU idle

/// What a launch reads, and what must live until it is in the stream.
struct Operands {
  cuda::FusedProduct product;
  std::vector<Tensor> held;
};

/// Without what it reads.
cuda::FusedProduct sizes_of(const LinearPart& part, bool rounds) {
  return {.type = rounds ? DType::f8_e4m3 : DType::bf16,
          .rows = part.x.dim(0),
          .outs = part.layer->out(),
          .depth = part.layer->in()};
}

Operands operands_of(CudaContext& context, const LinearPart& part, bool rounds) {
  Operands o;
  cuda::FusedProduct& p = o.product = sizes_of(part, rounds);
  if (rounds) {
    const Fp8Layer& layer = fp8_layer(context, *part.layer);
    const Tensor x = part.x.dtype() == DType::f8_e4m3 ? part.x : rounded_copy(context, part.x);
    p.x = x.data<void>();
    p.x_scales = rounded(x).scales;
    p.w = layer.codes.data<void>();
    p.w_scales = layer.scales.data<float>();
    p.bias = layer.bias ? layer.bias.data<void>() : nullptr;
    p.bound = layer.bound.data<float>();
    o.held = {x};
    return o;
  }
  const Tensor x = as_type(context, part.x, DType::bf16), w = joined_weights(context, *part.layer);
  const Tensor bias = kept_bias(context, *part.layer, DType::bf16);
  p.x = x.data<void>();
  p.w = w.data<void>();
  p.bias = bias ? bias.data<void>() : nullptr;
  o.held = {x, w, bias};
  return o;
}

/// Puts the parts into the stream as one launch, if all suit it.
bool launch(CudaContext& context, const std::vector<Operands>& parts, const cuda::Joined& joined) {
  std::vector<cuda::FusedProduct> products;
  for (const Operands& part : parts) products.push_back(part.product);
  if (!std::ranges::all_of(products, cuda::suits_fused)) return false;
  cuda::fused_products(products.data(), static_cast<int>(products.size()), joined, context.stream());
  return true;
}

/// Whether products may join their own queries, keys and values.
bool suits_join(const cuda::Joined& joined, const std::vector<cuda::JoinPart>& parts) {
  return joined.width == cuda::kFusedHeadWidth && std::ranges::none_of(parts, &cuda::JoinPart::halves);
}

bool is_like(const Linear& a, const Linear& b) { return a.in() == b.in() && a.out() == b.out(); }

/// Whether nothing stands beside its weights: side branches are products of their own.
bool is_plain(const Linear& layer) {
  return std::ranges::all_of(layer.slabs, [](const Slab& slab) { return slab.branches.empty(); });
}

}  // namespace

CudaKernels::Ending CudaKernels::ending_of(const LinearPart& part, DType out) const {
  const Epilogue& e = part.epilogue;
  if (e.gate && e.residual)
    return e.activation == Activation::none && out == DType::f32 && e.residual.dtype() == DType::f32 ? Ending::residual
                                                                                                     : Ending::other;
  if (e.gate || e.residual) return Ending::other;
  if (e.activation == Activation::none && e.feeds == nullptr && part.layer->slabs.size() > 1) return Ending::heads;
  const bool rounds = uses_fp8(part.layer);
  if (e.activation != Activation::gelu_tanh || e.feeds == nullptr || rounds != uses_fp8(e.feeds)) return Ending::other;
  return rounds ? Ending::codes : Ending::bf16;
}

CudaKernels::Ending CudaKernels::fused_ending(std::span<const LinearPart> parts, std::span<const DType> out) const {
  if (!context_.has_wgmma() || !context_.narrow() || parts.size() > cuda::kMaxFused) return Ending::other;
  const bool rounds = uses_fp8(parts[0].layer);
  const Ending first = ending_of(parts[0], out[0]);
  int64_t most_rows = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    const Linear& layer = *parts[p].layer;
    if (ending_of(parts[p], out[p]) != first || uses_fp8(&layer) != rounds || !is_like(layer, *parts[0].layer))
      return Ending::other;
    if (suits_mixed(context_, layer) || (!rounds && !is_plain(layer)) || !cuda::suits_fused(sizes_of(parts[p], rounds)))
      return Ending::other;
    most_rows = std::max(most_rows, parts[p].x.dim(0));
  }
  return most_rows < kLeastFused ? Ending::other : first;
}

bool CudaKernels::linear_fused(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::vector<DType> types;
  for (const Tensor& t : out) types.push_back(t.dtype());
  const Ending first = fused_ending(parts, types);
  if (first == Ending::other) return false;
  const bool rounds = uses_fp8(parts[0].layer);
  if (first == Ending::heads) return wait_for_join(out, parts);
  std::vector<Operands> operands;
  for (size_t p = 0; p < parts.size(); ++p) {
    operands.push_back(operands_of(context_, parts[p], rounds));
    cuda::FusedProduct& product = operands.back().product;
    const Epilogue& e = parts[p].epilogue;
    product.activation = e.activation;
    product.gate = row_vectors(context_, e.gate);
    product.residual = numbers(e.residual);
    if (first == Ending::codes) {
      product.rounded = rounded(retyped(out[p], DType::f8_e4m3));
    } else {
      product.out = output(first == Ending::bf16 ? retyped(out[p], DType::bf16) : out[p]);
    }
  }
  if (!launch(context_, operands, {})) return false;
  for (Tensor& t : out)
    if (first != Ending::residual) t = retyped(t, first == Ending::codes ? DType::f8_e4m3 : DType::bf16);
  return true;
}

bool CudaKernels::wait_for_join(std::span<Tensor> out, std::span<const LinearPart> parts) {
  context_.stream();  // what waits already goes first
  for (Tensor& t : out) t = retyped(t, DType::bf16);
  waiting_ = {{out.begin(), out.end()}, {parts.begin(), parts.end()}, {}};
  for (const LinearPart& part : parts) waiting_.layers.push_back(*part.layer);
  for (size_t p = 0; p < parts.size(); ++p) waiting_.parts[p].layer = &waiting_.layers[p];
  context_.defer([this] {
    Waiting now = std::exchange(waiting_, {});
    linear_apart(now.out, now.parts);
  });
  return true;
}

void CudaKernels::forget_waiting() {
  context_.forget_deferred();
  waiting_ = {};
}

CudaKernels::Waiting CudaKernels::take_waiting(std::span<const QkvPart> parts) {
  const bool are_those = waiting_.out.size() == parts.size() &&
                         std::ranges::equal(waiting_.out, parts, [](const Tensor& waits, const QkvPart& part) {
                           return waits.buffer() == part.qkv.buffer() && waits.offset() == part.qkv.offset();
                         });
  if (!are_those) return {};
  context_.forget_deferred();
  return std::exchange(waiting_, {});
}

bool CudaKernels::join_fused(const Waiting& waiting, const std::vector<cuda::JoinPart>& parts,
                             const cuda::Joined& joined) {
  std::vector<Operands> operands;
  const bool rounds = uses_fp8(waiting.parts[0].layer);
  for (size_t p = 0; p < parts.size(); ++p) {
    operands.push_back(operands_of(context_, waiting.parts[p], rounds));
    operands.back().product.join = parts[p];
  }
  return launch(context_, operands, joined);
}

void CudaKernels::join(Waiting waiting, const std::vector<cuda::JoinPart>& parts, const cuda::Joined& joined) {
  if (!waiting.parts.empty()) {
    if (suits_join(joined, parts) && join_fused(waiting, parts, joined)) return;
    linear_apart(waiting.out, waiting.parts);
  }
  cuda::join_qkv(joined, parts.data(), static_cast<int>(parts.size()), context_.stream());
}

}  // namespace inkstone
