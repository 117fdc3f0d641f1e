// Linear layers in 8 bits: products of E4M3 numbers with a scale for each row of both operands. What feeds such a layer
// is rounded by the op that makes it, where that sees whole rows.
#include "cuda/cuda_kernels.h"
#include "cuda/fp8_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

/// A bf16 tensor in the second half of an f32 one: numbers in 8 bits leave it free.
Tensor second_half(const Tensor& t) { return {t.buffer(), t.offset() + t.bytes() / 2, t.shape(), DType::bf16}; }

/// x in 8 bits times weights.
Product product_of(const Tensor& x, const Tensor& codes, const Tensor& scales, const Tensor& d) {
  const int64_t in = x.dim(1), outs = codes.dim(0);
  return {.type = DType::f8_e4m3,
          .rows = x.dim(0),
          .outs = outs,
          .depth = in,
          .x = {x.data<void>(), in, 0, rounded(x).scales},
          .w = {codes.data<void>(), in, 0, scales.data<float>()},
          .d = output(d),
          .d_stride = outs};
}

/// What becomes of a product in 8 bits.
struct Plan {
  Plan(const LinearPart& part, bool rounds_result)
      : changes(part.epilogue.activation != Activation::none || part.epilogue.gate || part.epilogue.residual),
        rounds(rounds_result),
        narrow(part.epilogue.feeds != nullptr || part.layer->slabs.size() > 1) {}

  /// Whether it needs memory beside the result's.
  bool is_apart() const { return !rounds && (changes || !narrow); }

  bool changes, rounds, narrow;
};

}  // namespace

bool CudaKernels::rounds_result(const LinearPart& part) const {
  const Epilogue& e = part.epilogue;
  return uses_fp8(part.layer) && uses_fp8(e.feeds) && !e.gate && !e.residual;
}

/// What a norm rounds itself is counted all the same: attention's results, which are as wide, are rounded here.
void CudaKernels::count_fp8(ScratchBytes& scratch, const LinearPart& part, bool fused) const {
  const int64_t rows = part.x.dim(0);
  if (part.x.dtype() != DType::i8 && part.x.dtype() != DType::f8_e4m3)
    scratch.add(rounded_shape(rows, part.x.dim(1)), DType::u8);
  if (!fused && Plan(part, rounds_result(part)).is_apart()) scratch.add({rows, part.layer->out()}, DType::bf16);
}

bool CudaKernels::uses_fp8(const Linear* layer) const {
  return context_.rounds() && layer != nullptr && suits_fp8(*layer);
}

void CudaKernels::linear_fp8(Tensor& out, const LinearPart& part) {
  const Epilogue& epilogue = part.epilogue;
  const Fp8Layer& layer = fp8_layer(context_, *part.layer);
  const Tensor x = part.x.dtype() == DType::f8_e4m3 ? part.x : rounded_copy(context_, part.x);
  const Plan plan(part, rounds_result(part));
  const Tensor product = plan.is_apart() ? context_.empty(out.shape(), DType::bf16)
                         : plan.rounds   ? second_half(out)
                                         : retyped(out, DType::bf16);
  Product main = product_of(x, layer.codes, layer.scales, product);
  const bool gelu = epilogue.activation == Activation::gelu_tanh;  // costs next to nothing inside the product
  main.gelu = gelu;
  if (layer.bias) main.bias = layer.bias.data<void>();
  context_.multiply(main);
  const Activation activation = gelu ? Activation::none : epilogue.activation;
  const int64_t rows = out.dim(0), width = out.dim(1);
  if (plan.rounds) {
    out = retyped(out, DType::f8_e4m3);
    cuda::round_rows(rounded(out), numbers(product), activation, rows, width, context_.stream());
    return;
  }
  if (plan.narrow) out = retyped(out, DType::bf16);
  if (plan.is_apart())
    cuda::finish({.out = output(out),
                  .x = numbers(product),
                  .activation = activation,
                  .gate = row_vectors(context_, epilogue.gate),
                  .residual = numbers(epilogue.residual)},
                 rows, width, context_.stream());
}

}  // namespace inkstone
