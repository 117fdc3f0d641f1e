#include "reference/int8_conv.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 3;         // of the kernel
constexpr int64_t kReach = 4;        // pixels that a kernel may meet along an axis, from the one before its position's
constexpr int64_t kMostGroup = 384;  // channels
constexpr int64_t kUnit = 4;
constexpr float kGreatest = 127;

/// Rounds channels in place, part by part.
void round_channels(float* x, int64_t n) {
  const int64_t part = round_up(divide_up(n, divide_up(n, kMostGroup)), kUnit);
  for (int64_t begin = 0; begin < n; begin += part) {
    const int64_t end = std::min(begin + part, n);
    float greatest = 0;
    for (int64_t i = begin; i < end; ++i) greatest = std::max(greatest, std::abs(x[i]));
    const float inverse = greatest > 0 ? kGreatest / greatest : 0;
    for (int64_t i = begin; i < end; ++i) x[i] = std::nearbyint(x[i] * inverse) * (greatest / kGreatest);
  }
}

Tensor rounded(const Tensor& x) {
  Tensor y = host_tensor(x.shape(), DType::f32);
  std::copy_n(x.data<const float>(), x.count(), y.data<float>());
  for (int64_t i = 0; i < x.shape().rows(); ++i) round_channels(y.data<float>() + i * x.dim(-1), x.dim(-1));
  return y;
}

/// The pixel under tap k of the kernel at an output position, counted from the one before the position's own.
int64_t reach(const Conv2d& conv, int64_t position, int64_t k) {
  const int64_t before = conv.padding == Padding::same ? 1 : 0;
  const int64_t up = conv.upsampling, at = position * conv.stride;
  return (at % up + k - before + up) / up;
}

/// (out, kReach, kReach, in): the kernel that output pixels at such positions meet.
Tensor kernel_at(const Conv2d& conv, int64_t row, int64_t column) {
  const int64_t in = conv.in(), out = conv.out();
  const Tensor weight = to_f32(conv.weight), kernel = host_tensor({out, kReach, kReach, in}, DType::f32);
  std::fill_n(kernel.data<float>(), kernel.count(), 0.0f);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t dy = 0; dy < kSide; ++dy)
      for (int64_t dx = 0; dx < kSide; ++dx) {
        const float* from = weight.data<const float>() + ((o * kSide + dy) * kSide + dx) * in;
        float* to =
            kernel.data<float>() + ((o * kReach + reach(conv, row, dy)) * kReach + reach(conv, column, dx)) * in;
        for (int64_t i = 0; i < in; ++i) to[i] += from[i];
      }
  return rounded(kernel);
}

double convolve(const Tensor& x, const Tensor& kernel, int64_t o, const Shape& centre) {
  const int64_t height = x.dim(1), width = x.dim(2), in = x.dim(3);
  double sum = 0;
  for (int64_t dy = 0; dy < kReach; ++dy)
    for (int64_t dx = 0; dx < kReach; ++dx) {
      const int64_t row = centre[1] + dy - 1, column = centre[2] + dx - 1;
      if (row < 0 || row >= height || column < 0 || column >= width) continue;
      const float* from = x.data<const float>() + ((centre[0] * height + row) * width + column) * in;
      const float* w = kernel.data<const float>() + ((o * kReach + dy) * kReach + dx) * in;
      for (int64_t i = 0; i < in; ++i) sum += double{from[i]} * w[i];
    }
  return sum;
}

}  // namespace

void int8_conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const Tensor pixels = rounded(x);
  const int64_t up = conv.upsampling, stride = conv.stride;
  std::vector<Tensor> kernels;  // of even and odd positions along both axes
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t column = 0; column < 2; ++column) kernels.push_back(kernel_at(conv, row, column));
  float* to = out.data<float>();
  for (int64_t picture = 0; picture < out.dim(0); ++picture)
    for (int64_t row = 0; row < out.dim(1); ++row)
      for (int64_t column = 0; column < out.dim(2); ++column)
        for (int64_t o = 0; o < out.dim(3); ++o, ++to) {
          const Tensor& kernel = kernels[static_cast<size_t>(row % 2 * 2 + column % 2)];
          double sum = conv.bias.data<const float>()[o] +
                       convolve(pixels, kernel, o, {picture, row * stride / up, column * stride / up});
          if (residual) sum += residual.data<const float>()[to - out.data<float>()];
          *to = static_cast<float>(sum);
        }
}

}  // namespace inkstone
