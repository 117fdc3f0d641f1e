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

}  // namespace

bool CudaKernels::uses_fp8(const Linear* layer) const {
  return context_.rounds() && layer != nullptr && suits_fp8(*layer);
}

void CudaKernels::linear_fp8(Tensor& out, const LinearPart& part) {
  const Epilogue& epilogue = part.epilogue;
  const Fp8Layer& layer = fp8_layer(context_, *part.layer);
  const Tensor x = part.x.dtype() == DType::f8_e4m3 ? part.x : rounded_copy(context_, part.x);
  const bool changes = epilogue.activation != Activation::none || epilogue.gate || epilogue.residual;
  const bool rounds = uses_fp8(epilogue.feeds) && !epilogue.gate && !epilogue.residual;
  const bool narrow = epilogue.feeds != nullptr || part.layer->slabs.size() > 1;
  const Tensor product = rounds               ? second_half(out)
                         : narrow && !changes ? retyped(out, DType::bf16)
                                              : context_.empty(out.shape(), DType::bf16);
  Product main = product_of(x, layer.codes, layer.scales, product);
  const bool gelu = epilogue.activation == Activation::gelu_tanh;  // costs next to nothing inside the product
  main.gelu = gelu;
  if (layer.bias) main.bias = layer.bias.data<void>();
  context_.multiply(main);
  const Activation activation = gelu ? Activation::none : epilogue.activation;
  const int64_t rows = out.dim(0), width = out.dim(1);
  if (rounds) {
    out = retyped(out, DType::f8_e4m3);
    cuda::round_rows(rounded(out), numbers(product), activation, rows, width, context_.stream());
    return;
  }
  if (narrow) out = retyped(out, DType::bf16);
  if (changes || !narrow)
    cuda::finish({.out = output(out),
                  .x = numbers(product),
                  .activation = activation,
                  .gate = row_vectors(context_, epilogue.gate),
                  .residual = numbers(epilogue.residual)},
                 rows, width, context_.stream());
}

}  // namespace inkstone
