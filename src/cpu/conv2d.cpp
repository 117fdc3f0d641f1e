// 3x3 convolutions as matrix products: the taps of a run of output pixels are gathered into a panel that stays in the
// cache, so neither a padded nor an upsampled picture ever exists.
#include <algorithm>
#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/epilogue.h"
#include "cpu/gemm.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 3;                   // of the kernel
constexpr int64_t kTasksPerWorker = 8;         // enough that the last ones end together
constexpr int64_t kMostPixels = 384;           // of a task: packing the weights again costs 1 / pixels
constexpr int64_t kLeastPixels = 8;            // the height of oneDNN's micro-kernel
constexpr int64_t kPanelNumbers = 160 * 1024;  // of gathered taps: most of the L2 cache

/// Sizes of a call; pixels of the result are numbered through all pictures.
struct ConvShape {
  int64_t height = 0;  ///< of the picture that is read
  int64_t width = 0;
  int64_t in = 0;
  int64_t out_height = 0;
  int64_t out_width = 0;
  int64_t stride = 1;
  int64_t upsampling = 1;
  int64_t before = 0;  ///< zeros above and to the left

  /// The row or column read for a position of the result and a tap; -1 for zeros.
  int64_t source(int64_t position, int64_t tap, int64_t size) const {
    const int64_t at = position * stride + tap - before;
    return at < 0 || at >= size * upsampling ? -1 : at / upsampling;
  }
};

/// Taps [tap_begin, tap_end) of a run of pixels: row by row (pixels, taps * in).
struct Gather {
  int64_t pixel_begin = 0;
  int64_t pixel_end = 0;
  int64_t tap_begin = 0;
  int64_t tap_end = 0;
};

void gather(const ConvShape& shape, const float* x, const Gather& g, float* panel) {
  const auto in = static_cast<size_t>(shape.in);
  for (int64_t pixel = g.pixel_begin; pixel < g.pixel_end; ++pixel) {
    const int64_t column = pixel % shape.out_width;
    const int64_t row = pixel / shape.out_width % shape.out_height;
    const int64_t picture = pixel / (shape.out_width * shape.out_height);
    for (int64_t tap = g.tap_begin; tap < g.tap_end; ++tap, panel += in) {
      const int64_t source_row = shape.source(row, tap / kSide, shape.height);
      const int64_t source_column = shape.source(column, tap % kSide, shape.width);
      if (source_row < 0 || source_column < 0)
        std::memset(panel, 0, in * sizeof(float));
      else
        std::memcpy(panel, x + ((picture * shape.height + source_row) * shape.width + source_column) * shape.in,
                    in * sizeof(float));
    }
  }
}

/// The weights as f32 (out, 9 * in): in place, or a copy for the call.
Tensor dense_kernel(const Conv2d& conv) {
  if (conv.weight.dtype() == DType::f32) return conv.weight;
  return to_f32(conv.weight);
}

}  // namespace

void CpuKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const ConvShape shape = {.height = x.dim(1),
                           .width = x.dim(2),
                           .in = conv.in(),
                           .out_height = out.dim(1),
                           .out_width = out.dim(2),
                           .stride = conv.stride,
                           .upsampling = conv.upsampling,
                           .before = conv.padding == Padding::same ? 1 : 0};
  const Tensor kernel = dense_kernel(conv);
  const int64_t depth = kSide * kSide * shape.in;
  const int64_t channels = conv.out();
  const int64_t pixels = out.shape().rows();
  const int64_t run = std::clamp(pixels / (pool_.threads() * kTasksPerWorker), kLeastPixels, kMostPixels);
  const int64_t taps = std::clamp<int64_t>(kPanelNumbers / (run * shape.in), 1, kSide * kSide);

  pool_.run((pixels + run - 1) / run, [&](int64_t index, int worker) {
    const OneDnnOnThisThread one_thread;
    const int64_t begin = index * run;
    const int64_t end = std::min(begin + run, pixels);
    float* panel = scratch_.floats(worker, run * taps * shape.in);
    for (int64_t tap = 0; tap < kSide * kSide; tap += taps) {
      const int64_t tap_end = std::min(tap + taps, kSide * kSide);
      const int64_t k = (tap_end - tap) * shape.in;
      gather(shape, x.data<const float>(), {begin, end, tap, tap_end}, panel);
      gemm({.m = end - begin,
            .n = channels,
            .k = k,
            .x = panel,
            .x_stride = k,
            .w = kernel.data<const float>() + tap * shape.in,
            .w_stride = depth,
            .y = out.data<float>() + begin * channels,
            .y_stride = channels,
            .accumulate = tap > 0});
    }
    finish_tile({out.data<float>(), channels, begin, end, 0, channels}, conv.bias.data<const float>(),
                {.residual = residual});
  });
}

}  // namespace inkstone
