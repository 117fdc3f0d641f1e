#include <algorithm>
#include <optional>

#include "cuda/cuda_kernels.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

/// A whole matrix as numbers that products read.
Tensor dense(CudaContext& context, const Weight& weight) {
  const DType type = context.operand_type();
  if (weight.format == dense_format(type)) return weight.data;
  const Tensor expanded = context.empty({weight.out, weight.in}, type);
  cuda::expand(output(expanded), matrix(weight), weight.out, context.stream());
  return expanded;
}

/// What cuBLAS does of an epilogue, and where its result goes.
struct Plan {
  Plan(CudaContext& context, const Tensor& out, const Epilogue& e)
      : gelu(e.activation == Activation::gelu_tanh && out.dtype() == DType::bf16 && !e.gate && !e.residual),
        adds(e.residual && !e.gate && e.activation == Activation::none && out.dtype() == DType::f32 &&
             e.residual.dtype() == DType::f32),
        finishes((e.activation != Activation::none && !gelu) || e.gate || (e.residual && !adds)) {
    // A gated product is only added to something larger: half of the bytes will do.
    product = finishes && e.gate && context.narrow() ? context.empty(out.shape(), DType::bf16) : out;
  }

  bool gelu, adds, finishes;
  Tensor product;
};

}  // namespace

void CudaKernels::linear(Tensor& out, const LinearPart& part) {
  if (uses_fp8(part.layer)) return linear_fp8(out, part);
  const Epilogue& epilogue = part.epilogue;
  const bool taken_apart = part.layer->slabs.size() > 1;
  if (epilogue.feeds != nullptr || taken_apart) out = retyped(out, context_.operand_or(out.dtype()));
  const Plan plan(context_, out, epilogue);
  const Tensor x = as_type(context_, part.x, context_.operand_type());
  const int64_t rows = x.dim(0), in = x.dim(1), width = out.dim(1);
  int64_t column = 0;
  for (const Slab& slab : part.layer->slabs) {
    check(slab.branches.empty(), "device cuda: cannot add side branches (LoRAs) to a layer; cpu can");
    const Tensor w = dense(context_, slab.weight);
    const Tensor bias = slab.bias ? as_type(context_, slab.bias, plan.product.dtype()) : slab.bias;
    const auto at_column = [&](const Tensor& t) {
      return t.data<std::byte>() + static_cast<size_t>(column) * size_of(t.dtype());
    };
    context_.multiply({.type = context_.operand_type(),
                       .rows = rows,
                       .outs = slab.weight.out,
                       .depth = in,
                       .x = {x.data<void>(), in},
                       .w = {w.data<void>(), in},
                       .d = {at_column(plan.product), plan.product.dtype()},
                       .d_stride = width,
                       .bias = bias ? bias.data<void>() : nullptr,
                       .gelu = plan.gelu,
                       .added = plan.adds ? at_column(epilogue.residual) : nullptr});
    column += slab.weight.out;
  }
  if (plan.finishes)
    cuda::finish({.out = output(out),
                  .x = numbers(plan.product),
                  .activation = epilogue.activation,
                  .gate = row_vectors(context_, epilogue.gate),
                  .residual = numbers(epilogue.residual)},
                 rows, width, context_.stream());
}

void CudaKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  if (parts.empty()) return;
  const auto rows = [](const LinearPart& part) { return part.x.dim(0); };
  const auto largest = static_cast<size_t>(std::ranges::max_element(parts, {}, rows) - parts.begin());
  std::optional<CudaContext::Fork> fork;
  if (parts.size() > 1) fork.emplace(context_);
  // The few rows of a text read as many weights as a picture's: that costs little beside the picture's arithmetic.
  for (size_t p = 0; p < parts.size(); ++p)
    if (p != largest) fork->aside([&] { linear(out[p], parts[p]); });
  linear(out[largest], parts[largest]);
  fork.reset();
  check_launch("linear");
}

}  // namespace inkstone
