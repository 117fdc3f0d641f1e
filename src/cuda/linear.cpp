#include <algorithm>

#include "cuda/apart.h"
#include "cuda/cuda_kernels.h"
#include "cuda/joined_layer.h"
#include "cuda/mixed_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

/// Whether a product has memory of its own: one with a gate is only added to something larger, so half of the bytes
/// will do.
bool is_apart(const CudaContext& context, const Epilogue& e) { return e.gate && context.narrow(); }

/// What cuBLAS does of an epilogue, and where its result goes.
struct Plan {
  Plan(CudaContext& context, const Tensor& out, const Epilogue& e)
      : gelu(e.activation == Activation::gelu_tanh && out.dtype() == DType::bf16 && !e.gate && !e.residual),
        adds(e.residual && !e.gate && e.activation == Activation::none && out.dtype() == DType::f32 &&
             e.residual.dtype() == DType::f32),
        finishes((e.activation != Activation::none && !gelu) || e.gate || (e.residual && !adds)) {
    product = is_apart(context, e) ? context.empty(out.shape(), DType::bf16) : out;
    if (adds) added = e.residual;
  }

  bool gelu, adds, finishes;
  Tensor product;
  Tensor added;  // to the product
};

Product product_of(const Tensor& x, const Tensor& w) {
  return {.type = x.dtype(),
          .rows = x.dim(0),
          .outs = w.dim(0),
          .depth = x.dim(1),
          .x = {x.data<void>(), x.dim(1)},
          .w = {w.data<void>(), w.dim(1)}};
}

Shape low_rank_shape(const Tensor& x, const SideBranch& branch) { return {x.dim(0), branch.rank()}; }

/// x downᵀ.
Tensor low_rank_rows(CudaContext& context, const Tensor& x, const SideBranch& branch) {
  const Tensor down = dense(context, branch.down);
  const Tensor low = context.empty(low_rank_shape(x, branch), x.dtype());
  Product product = product_of(x, down);
  product.d = output(low);
  product.d_stride = branch.rank();
  context.multiply(product);
  return low;
}

/// Where products of a part go.
struct Columns {
  CudaContext& context;
  const Plan& plan;

  std::byte* at(const Tensor& t, int64_t column) const {
    return t.data<std::byte>() + static_cast<size_t>(column) * size_of(t.dtype());
  }
  const void* added(int64_t column) const { return plan.added ? at(plan.added, column) : nullptr; }

  /// Puts a product into the columns from `column` on.
  void multiply(Product product, int64_t column, const void* to_add) const {
    product.d = {at(plan.product, column), plan.product.dtype()};
    product.d_stride = plan.product.dim(1);
    product.added = to_add;
    context.multiply(product);
  }
};

Product finished(Product product, const Tensor& bias, const Plan& plan) {
  product.bias = bias ? bias.data<void>() : nullptr;
  product.gelu = plan.gelu;
  return product;
}

/// A slab with side branches. They come first, so that GELU is of the whole sum.
void multiply_slab(CudaContext& context, const Tensor& x, const Slab& slab, const Tensor& bias, const Columns& to,
                   int64_t column) {
  const void* added = to.added(column);
  for (const SideBranch& branch : slab.branches) {
    const Tensor low = low_rank_rows(context, x, branch), up = dense(context, branch.up);
    Product product = product_of(low, up);
    product.factor = branch.factor;
    to.multiply(product, column, added);
    added = to.at(to.plan.product, column);
  }
  const Tensor w = dense(context, slab.weight);
  to.multiply(finished(product_of(x, w), bias, to.plan), column, added);
}

/// Whether a layer is one product: nothing stands beside its weights, or it is added to them where they are expanded.
/// That is faster for FP8 and blocks; what else there is takes less time as products of its own
/// (docs/performance-cuda-history.md).
bool is_one_product(const CudaContext& context, const Linear& layer) {
  return std::ranges::all_of(layer.slabs, [&](const Slab& slab) {
    const WeightFormat format = slab.weight.format;
    const bool is_fp8 = format == WeightFormat::f8_e4m3 || format == WeightFormat::f8_e5m2;
    const BlockLayout& layout = layout_of(format);
    const bool is_blocks = layout.numbers > 1 && layout.beside == Beside::nothing;
    return slab.branches.empty() || (context.narrow() && (is_fp8 || is_blocks));
  });
}

/// x times all of a layer, side branches included.
void multiply_layer(CudaContext& context, const Tensor& x, const Linear& layer, const Plan& plan) {
  const Tensor bias = kept_bias(context, layer, plan.product.dtype());
  const Columns to = {context, plan};
  if (is_one_product(context, layer)) {
    const Tensor w = joined_weights(context, layer);
    to.multiply(finished(product_of(x, w), bias, plan), 0, to.added(0));
    return;
  }
  int64_t column = 0;
  for (const Slab& slab : layer.slabs) {
    const int64_t end = column + slab.weight.out;
    multiply_slab(context, x, slab, bias ? bias.rows(column, end) : bias, to, column);
    column = end;
  }
}

}  // namespace

void CudaKernels::count_plain(ScratchBytes& scratch, const LinearPart& part, bool fused) const {
  const DType operand = context_.operand_type();
  if (part.x.dtype() != operand && part.x.dtype() != DType::i8) scratch.add(part.x.shape(), operand);
  if (!fused && is_apart(context_, part.epilogue)) scratch.add({part.x.dim(0), part.layer->out()}, DType::bf16);
  if (is_one_product(context_, *part.layer)) return;
  for (const Slab& slab : part.layer->slabs)
    for (const SideBranch& branch : slab.branches) scratch.add(low_rank_shape(part.x, branch), operand);
}

/// Of all parts together: what those aside allocate nobody else gets before the streams meet.
size_t CudaKernels::step_bytes(std::span<const LinearPart> parts) const {
  if (parts.empty()) return 0;
  const std::vector<DType> out(parts.size(), DType::f32);
  const bool fused = fused_ending(parts, out) != Ending::other;
  ScratchBytes scratch(context_.memory());
  for (const LinearPart& part : parts) {
    if (uses_fp8(part.layer)) {
      count_fp8(scratch, part, fused);
    } else if (suits_mixed(context_, *part.layer)) {
      count_int8(scratch, part);
    } else {
      count_plain(scratch, part, fused);
    }
    if (uses_fp8(part.epilogue.feeds) && !rounds_result(part))  // the layer that it feeds must do that then
      scratch.add(rounded_shape(part.x.dim(0), part.layer->out()), DType::u8);
  }
  return scratch.bytes();
}

void CudaKernels::linear(Tensor& out, const LinearPart& part) {
  if (uses_fp8(part.layer)) return linear_fp8(out, part);
  const Epilogue& epilogue = part.epilogue;
  const bool taken_apart = part.layer->slabs.size() > 1;
  if (epilogue.feeds != nullptr || taken_apart) out = retyped(out, context_.operand_or(out.dtype()));
  if (suits_mixed(context_, *part.layer)) return linear_int8(out, part);
  const Plan plan(context_, out, epilogue);
  const Tensor x = as_type(context_, part.x, context_.operand_type());
  multiply_layer(context_, x, *part.layer, plan);
  if (plan.finishes)
    cuda::finish({.out = output(out),
                  .x = numbers(plan.product),
                  .activation = epilogue.activation,
                  .gate = row_vectors(context_, epilogue.gate),
                  .residual = numbers(epilogue.residual)},
                 out.dim(0), out.dim(1), context_.stream());
}

void CudaKernels::linear_apart(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::vector<PartWork> works;
  for (size_t p = 0; p < parts.size(); ++p) {
    const Epilogue& e = parts[p].epilogue;
    works.push_back({parts[p].x.dim(0), {parts[p].x, e.residual, e.gate.table, e.gate.row}, {out[p]}});
  }
  run_apart(context_, works, [&](size_t p) { linear(out[p], parts[p]); });
}

void CudaKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  if (parts.empty()) return;
  if (!linear_fused(out, parts)) linear_apart(out, parts);
  check_launch("linear");
}

}  // namespace inkstone
