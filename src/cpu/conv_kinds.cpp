#include "cpu/conv_kinds.h"

#include <algorithm>

namespace inkstone {
namespace {

int64_t floor_half(int64_t n) { return n >= 0 ? n / 2 : -((1 - n) / 2); }

/// The axis for output positions 2 i + phase if pixels are doubled and not skipped again, for all positions else.
ConvAxis axis_of(const Conv2d& conv, int64_t phase) {
  const int64_t before = conv.padding == Padding::same ? 1 : 0;
  if (conv.upsampling == 1) return {.taps = kKernelSide, .first = -before, .step = conv.stride, .tap_of = {0, 1, 2}};
  ConvAxis axis = {.taps = 2, .first = floor_half(phase - before)};
  for (int64_t k = 0; k < kKernelSide; ++k) axis.tap_of[k] = floor_half(phase + k - before) - axis.first;
  return axis;
}

/// The kernel (out, taps * taps * in) whose taps are the sums of those that fall on one pixel.
Weight kernel_of(const Conv2d& conv, const ConvAxis& down, const ConvAxis& across) {
  const int64_t in = conv.in(), out = conv.out(), taps = down.taps * across.taps;
  if (taps == kKernelSide * kKernelSide) return dense_weight(conv.weight.reshape({out, taps * in}));
  const Tensor weight = to_f32(conv.weight);
  const Tensor sums = host_tensor({out, taps * in}, DType::f32);
  std::fill_n(sums.data<float>(), sums.count(), 0.0f);
  const float* from = weight.data<const float>();
  for (int64_t o = 0; o < out; ++o)
    for (int64_t ky = 0; ky < kKernelSide; ++ky)
      for (int64_t kx = 0; kx < kKernelSide; ++kx, from += in) {
        float* to = sums.data<float>() + (o * taps + down.tap_of[ky] * across.taps + across.tap_of[kx]) * in;
        for (int64_t i = 0; i < in; ++i) to[i] += from[i];
      }
  return dense_weight(sums);
}

/// The output pixels whose positions are `phases` apart, from (line, column) on.
PixelKind kind_of(const Tensor& out, const Conv2d& conv, int64_t phases, int64_t line, int64_t column) {
  const int64_t lines = out.dim(1) / phases, columns = out.dim(2) / phases, row_numbers = out.dim(2) * out.dim(3);
  const ConvAxis down = axis_of(conv, line), across = axis_of(conv, column);
  return {.down = down,
          .across = across,
          .lines = lines,
          .columns = columns,
          .count = out.dim(0) * lines * columns,
          .kernel = kernel_of(conv, down, across),
          .result = {.first = line * row_numbers + column * out.dim(3),
                     .stride = phases * out.dim(3),
                     .rows_of_line = columns,
                     .line_stride = phases * row_numbers}};
}

}  // namespace

std::vector<PixelKind> pixel_kinds(const Tensor& out, const Conv2d& conv) {
  const int64_t phases = std::max(1, conv.upsampling / conv.stride);
  std::vector<PixelKind> kinds;
  for (int64_t line = 0; line < phases; ++line)
    for (int64_t column = 0; column < phases; ++column) kinds.push_back(kind_of(out, conv, phases, line, column));
  return kinds;
}

}  // namespace inkstone
