#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 3;  // of the kernel

/// An output position, and the upsampled input's position under the kernel's first row and column.
struct Window {
  int64_t picture, row, column;
};

double convolve(const Tensor& x, const Conv2d& conv, const Tensor& weight, const Window& window, int64_t o) {
  const int64_t height = x.dim(1), width = x.dim(2), in = x.dim(3);
  double sum = 0;
  for (int64_t dy = 0; dy < kSide; ++dy)
    for (int64_t dx = 0; dx < kSide; ++dx) {
      const int64_t row = window.row + dy, column = window.column + dx;
      if (row < 0 || row >= height * conv.upsampling || column < 0 || column >= width * conv.upsampling) continue;
      const int64_t pixel = (window.picture * height + row / conv.upsampling) * width + column / conv.upsampling;
      const float* from = x.data<const float>() + pixel * in;
      const float* w = weight.data<const float>() + ((o * kSide + dy) * kSide + dx) * in;
      for (int64_t i = 0; i < in; ++i) sum += double{from[i]} * w[i];
    }
  return sum;
}

}  // namespace

void ReferenceKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const Tensor weight = to_f32(conv.weight);
  const int64_t before = conv.padding == Padding::same ? 1 : 0;
  float* to = out.data<float>();
  for (int64_t picture = 0; picture < out.dim(0); ++picture)
    for (int64_t row = 0; row < out.dim(1); ++row)
      for (int64_t column = 0; column < out.dim(2); ++column)
        for (int64_t o = 0; o < out.dim(3); ++o, ++to) {
          const Window window = {picture, row * conv.stride - before, column * conv.stride - before};
          double sum = conv.bias.data<const float>()[o] + convolve(x, conv, weight, window, o);
          if (residual) sum += residual.data<const float>()[to - out.data<float>()];
          *to = static_cast<float>(sum);
        }
  if (conv.norm) rms_norm(out, out, conv.norm, conv.norm_options);
}

}  // namespace inkstone
