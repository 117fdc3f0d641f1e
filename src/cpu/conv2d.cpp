// 3x3 convolutions as matrix products: a row is the neighbourhood of an output pixel and exists only while a tile reads
// it, so neither a padded nor an upsampled picture is ever made.
#include <algorithm>
#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/matrix_product.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 3;  // of the kernel
constexpr int64_t kTaps = kSide * kSide;

/// Row i: what the kernel sees at output pixel i, (tap, channel).
class Neighbourhoods final : public LeftMatrix {
 public:
  Neighbourhoods(const Tensor& x, const Conv2d& conv, const Shape& out)
      : x_(x.data<const float>()),
        height_(x.dim(1)),
        width_(x.dim(2)),
        channels_(x.dim(3)),
        out_height_(out[1]),
        out_width_(out[2]),
        stride_(conv.stride),
        upsampling_(conv.upsampling),
        before_(conv.padding == Padding::same ? 1 : 0) {}

  void read(int64_t row, int64_t begin, int64_t end, float* to) const override {
    const int64_t column = row % out_width_ * stride_ - before_;
    const int64_t line = row / out_width_;
    const int64_t first_line = line % out_height_ * stride_ - before_;
    const float* picture = x_ + line / out_height_ * height_ * width_ * channels_;
    for (int64_t at = begin; at < end;) {
      const int64_t tap = at / channels_;
      const int64_t channel = at - tap * channels_;
      const int64_t count = std::min(channels_ - channel, end - at);
      const float* pixel = pixel_at(picture, first_line + tap / kSide, column + tap % kSide);
      if (pixel == nullptr)
        std::memset(to, 0, static_cast<size_t>(count) * sizeof(float));
      else
        std::memcpy(to, pixel + channel, static_cast<size_t>(count) * sizeof(float));
      at += count;
      to += count;
    }
  }

  /// The processor sees by itself that pixel follows pixel.
  void prefetch(int64_t, int64_t, int64_t) const override {}

 private:
  /// Position in the upsampled picture; null in the border.
  const float* pixel_at(const float* picture, int64_t line, int64_t column) const {
    if (line < 0 || line >= height_ * upsampling_ || column < 0 || column >= width_ * upsampling_) return nullptr;
    return picture + (line / upsampling_ * width_ + column / upsampling_) * channels_;
  }

  const float* x_;
  int64_t height_, width_, channels_;
  int64_t out_height_, out_width_;
  int64_t stride_, upsampling_, before_;
};

}  // namespace

void CpuKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const Neighbourhoods rows(x, conv, out.shape());
  const Weight weight = dense_weight(conv.weight.reshape({conv.out(), kTaps * conv.in()}));
  const Epilogue epilogue = {.residual = residual};
  const MatrixProduct product = {.left = &rows,
                                 .rows = out.shape().rows(),
                                 .weight = &weight,
                                 .bias = conv.bias.data<const float>(),
                                 .epilogue = &epilogue,
                                 .y = out.data<float>(),
                                 .y_stride = conv.out()};
  run_products({&product, 1}, pool_, vector_, scratch_);
}

}  // namespace inkstone
