// Linear layers in whole numbers of 8 bits: rows are mixed and rounded ahead of each product, which does all of the
// epilogue.
#include "cuda/cuda_kernels.h"
#include "cuda/mixed_layer.h"
#include "cuda/views.h"
#include "ops/mixed_order.h"

namespace inkstone {
namespace {

/// Codes of rows, their scales behind them in the same memory.
cuda::MixedRows mixed_rows(const Tensor& memory, int64_t rows, int64_t d) {
  auto* codes = memory.data<int8_t>();
  return {codes, reinterpret_cast<cuda::MixedScale*>(codes + rows * d)};
}

/// That memory, in i8.
Shape mixed_rows_shape(int64_t rows, int64_t d) {
  return {rows, d + MixedOrder::groups_in(d) * static_cast<int64_t>(sizeof(cuda::MixedScale))};
}

void add_slabs(cuda::MixedProduct& product, const MixedLayer& layer) {
  int64_t column = 0;
  for (const Weight& w : layer.weights) {
    product.slabs[product.slab_count++] = {w.data.data<const uint8_t>(), w.scales.data<const float>(), w.out, column};
    column += w.out;
  }
}

}  // namespace

void CudaKernels::count_int8(ScratchBytes& scratch, const LinearPart& part) {
  scratch.add(mixed_rows_shape(part.x.dim(0), part.x.dim(1)), DType::i8);
}

void CudaKernels::linear_int8(Tensor& out, const LinearPart& part) {
  const Epilogue& epilogue = part.epilogue;
  const MixedLayer& layer = mixed_layer(context_, *part.layer);
  const int64_t rows = part.x.dim(0), in = part.x.dim(1);
  const Tensor memory = context_.empty(mixed_rows_shape(rows, in), DType::i8);
  const cuda::MixedRows x = mixed_rows(memory, rows, in);
  cuda::round_mixed_rows(x, numbers(part.x), layer.weights.front().factors.data<const float>(), rows, in,
                         context_.stream());
  cuda::MixedProduct product = {.codes = x.codes,
                                .scales = x.scales,
                                .rows = rows,
                                .in = in,
                                .outs = out.dim(1),
                                .bias = layer.bias ? layer.bias.data<const float>() : nullptr,
                                .activation = epilogue.activation,
                                .gate = row_vectors(context_, epilogue.gate),
                                .residual = numbers(epilogue.residual),
                                .out = output(out)};
  add_slabs(product, layer);
  cuda::multiply_mixed(product, context_.stream());
}

}  // namespace inkstone
