#include <algorithm>
#include <utility>

#include "cuda/cuda_kernels.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

constexpr int64_t kBandNumbers = int64_t{16} << 20;  // of gathered input held at a time
constexpr int64_t kChunk = 8;                        // channels that are copied at once

/// Without the input's numbers.
cuda::Convolution shape_of(const Shape& x, const Conv2d& conv) {
  return {.count = x[0],
          .height = x[1],
          .width = x[2],
          .in = x[3],
          .out_height = x[1] * conv.upsampling / conv.stride,
          .out_width = x[2] * conv.upsampling / conv.stride,
          .out = conv.out(),
          .stride = conv.stride,
          .upsampling = conv.upsampling,
          .before = conv.padding == Padding::same ? 1 : 0};
}

/// Whether a kernel gathers bf16 input while it multiplies; else bands of it are gathered ahead.
bool gathers(const CudaContext& context, const Conv2d& conv) { return context.narrow() && conv.in() % kChunk == 0; }

/// Whether the copy engine brings that input. Then the result is bf16 where a norm follows.
bool takes_boxes(const CudaContext& context, const Conv2d& conv, const cuda::ConvolutionProduct& product) {
  return gathers(context, conv) && context.has_wgmma() && (cuda::suits_resident(product) || cuda::suits_boxes(product));
}

/// A band of output pixels at a time: what the kernel sees there as rows, times the weights.
void convolve_by_products(CudaContext& context, const cuda::Convolution& c, const cuda::ConvolutionProduct& p) {
  const DType type = context.operand_type();
  const int64_t depth = cuda::kTaps * c.in, pixels = c.count * c.out_height * c.out_width;
  const int64_t most = std::max<int64_t>(1, kBandNumbers / depth);
  for (int64_t first = 0; first < pixels; first += most) {
    const int64_t rows = std::min(most, pixels - first);
    const Tensor seen = context.empty({rows, depth}, type);
    cuda::im2col(output(seen), c, first, rows, context.stream());
    const auto from_first = [&](const void* f32) {
      return f32 == nullptr ? nullptr : static_cast<const float*>(f32) + first * c.out;
    };
    context.multiply({.type = type,
                      .rows = rows,
                      .outs = c.out,
                      .depth = depth,
                      .x = {seen.data<void>(), depth},
                      .w = {p.weight, depth},
                      .d = {const_cast<float*>(from_first(p.out.data)), DType::f32},
                      .d_stride = c.out,
                      .bias = p.bias,
                      .added = from_first(p.residual.data)});
  }
}

}  // namespace

/// A result in f32 that a norm followed is counted here with the copy in bf16 that its reader makes.
size_t CudaKernels::conv_bytes(const Tensor& x, const Conv2d& conv) const {
  ScratchBytes scratch(context_.memory());
  if (!gathers(context_, conv)) return 0;
  const cuda::Convolution shape = shape_of(x.shape(), conv);
  if (x.dtype() != DType::bf16) scratch.add(x.shape(), DType::bf16);
  if (conv.norm && !takes_boxes(context_, conv, {.shape = shape}))
    scratch.add({shape.count, shape.out_height, shape.out_width, shape.out}, DType::bf16);
  return scratch.bytes();
}

void CudaKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  if (!convolve(out, x, conv, residual) && conv.norm)
    cuda::rms_norm({.out = output(out),
                    .x = numbers(out),
                    .weight = conv.norm.data<const float>(),
                    .eps = conv.norm_options.eps,
                    .activation = conv.norm_options.activation},
                   out.shape().rows(), conv.out(), context_.stream());
  check_launch("conv2d");
}

bool CudaKernels::convolve(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const bool gathers_input = gathers(context_, conv);
  const Tensor input = gathers_input ? as_type(context_, x, DType::bf16) : x;
  const Tensor added = residual ? as_type(context_, residual, DType::f32) : residual;
  const Tensor weight = as_type(context_, conv.weight, context_.operand_type());
  cuda::ConvolutionProduct product = {.shape = shape_of(input.shape(), conv),
                                      .weight = weight.data<void>(),
                                      .bias = conv.bias.data<const float>(),
                                      .residual = numbers(added),
                                      .out = output(out)};
  product.shape.x = numbers(input);
  const bool stays = cuda::suits_resident(product);
  if (takes_boxes(context_, conv, product)) {
    if (conv.norm) product.out = output(out = narrowed(context_, std::move(out), DType::bf16));
    if (conv.norm && conv.norm_options.activation == Activation::silu &&
        cuda::norms_in_boxes(conv.out(), conv.norm.data<const float>()))
      product.norm = {conv.norm.data<const float>(), conv.norm_options.eps};
    Tensor summed;
    if (conv.upsampling > 1) {
      constexpr int64_t kSummed = 16;  // 2x2 kernels of 2x2 taps
      summed = context_.empty({kSummed, conv.out(), conv.in()}, DType::bf16);
      cuda::sum_taps(summed.data<void>(), product.weight, conv.out(), conv.in(), context_.stream());
      product.weight = summed.data<void>();
    }
    (stays ? cuda::conv2d_resident : cuda::conv2d_boxes)(product, context_.stream());
  } else if (gathers_input && context_.has_wgmma()) {
    cuda::conv2d_wgmma(product, context_.stream());
  } else if (gathers_input) {
    cuda::conv2d_mma(product, context_.stream());
  } else {
    convolve_by_products(context_, product.shape, product);
  }
  return product.norm.weight != nullptr;
}

}  // namespace inkstone
