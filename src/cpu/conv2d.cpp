// 3x3 convolutions as matrix products: a row is what the kernel sees at an output pixel. Most such rows are runs of the
// picture itself; those at its border exist only while a tile reads them. So no padded picture is ever made.
#include <algorithm>
#include <deque>

#include "cpu/cache_line.h"
#include "cpu/conv_kinds.h"
#include "cpu/cpu_kernels.h"
#include "cpu/int8_conv.h"

namespace inkstone {
namespace {

/// Row i: what the kernel sees at output pixel i of a kind, (tap row, tap column, channel).
class Neighbourhoods final : public LeftMatrix {
 public:
  Neighbourhoods(const Tensor& x, const PixelKind& kind) : x_(x), kind_(kind) {}

  int64_t run() const override { return kind_.across.taps * channels(); }

  RowView in_place(const LeftRange& range) const override {
    const int64_t tap_line = range.begin / run();
    const int64_t first = column_of(range.row), last = column_of(range.row + range.rows - 1) + kind_.across.taps - 1;
    const int64_t line = line_of(range.row, tap_line);
    if (line < 0 || line >= height() || first < 0 || last >= width()) return {};
    return {pixel(range.row, line, first) + (range.begin - tap_line * run()), kind_.across.step * channels()};
  }

  void copy(const LeftRange& range, float* to) const override {
    for (int64_t row = range.row; row < range.row + range.rows; ++row)
      for (int64_t at = range.begin; at < range.end;) {
        const int64_t tap = at / channels();
        const int64_t channel = at - tap * channels();
        const auto count = std::min(channels() - channel, range.end - at);
        const int64_t line = line_of(row, tap / kind_.across.taps);
        const int64_t column = column_of(row) + tap % kind_.across.taps;
        if (line < 0 || line >= height() || column < 0 || column >= width())
          std::fill_n(to, count, 0.0f);
        else
          std::copy_n(pixel(row, line, column) + channel, count, to);
        at += count;
        to += count;
      }
  }

  /// What the rows before these have not read already.
  void prefetch(const LeftRange& range) const override {
    const RowView view = in_place({range.row, range.rows, range.begin, range.end});
    if (view.data == nullptr) return;
    const float* end = view.data + (range.rows - 1) * view.stride + range.depth();
    for (const float* at = end - range.rows * view.stride; at < end; at += kLineNumbers) __builtin_prefetch(at);
  }

 private:
  int64_t height() const { return x_.dim(1); }
  int64_t width() const { return x_.dim(2); }
  int64_t channels() const { return x_.dim(3); }
  int64_t line_of(int64_t row, int64_t tap) const {
    return row / kind_.columns % kind_.lines * kind_.down.step + kind_.down.first + tap;
  }
  int64_t column_of(int64_t row) const { return row % kind_.columns * kind_.across.step + kind_.across.first; }
  const float* pixel(int64_t row, int64_t line, int64_t column) const {
    const int64_t picture = row / (kind_.columns * kind_.lines);
    return x_.data<const float>() + ((picture * height() + line) * width() + column) * channels();
  }

  const Tensor& x_;
  const PixelKind& kind_;
};

}  // namespace

void CpuKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  convolve(out, x, conv, residual);
  if (conv.norm) rms_norm(out, out, conv.norm, conv.norm_options);
}

void CpuKernels::convolve(const Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const std::vector<PixelKind> kinds = pixel_kinds(out, conv);
  const Epilogue epilogue = {.residual = residual};
  std::vector<MatrixProduct> products;
  for (const PixelKind& kind : kinds)
    products.push_back({.rows = kind.count,
                        .weight = &kind.kernel,
                        .bias = conv.bias.data<const float>(),
                        .epilogue = &epilogue,
                        .y = out.data<float>(),
                        .result = kind.result});
  if (int8_ != nullptr && conv.tolerant)
    return run_int8_convolution({x, kinds, products}, pool_, {vector_, *int8_}, scratch_);
  std::deque<Neighbourhoods> rows;
  for (size_t i = 0; i < kinds.size(); ++i) products[i].left = &rows.emplace_back(x, kinds[i]);
  run_products(products, pool_, vector_, scratch_);
}

size_t CpuKernels::conv_bytes(const Shape& x, const Conv2d& conv) const {
  return int8_ != nullptr && conv.tolerant ? int8_convolution_bytes(*int8_, x, conv) : 0;
}

}  // namespace inkstone
