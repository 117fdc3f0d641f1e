// 3x3 convolutions as matrix products: a row is what the kernel sees at an output pixel. Most such rows are runs of the
// picture itself; those at its border exist only while a tile reads them. So no padded picture is ever made.
//
// Where pixels are doubled first, the three taps of an axis fall on two pixels, and which of them share one depends on
// whether the output's position is even or odd. That makes four 2x2 convolutions of the small picture, whose kernels
// are sums: 4/9 of the arithmetic, and no doubled picture either.
#include <algorithm>
#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/matrix_product.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 3;          // of the kernel in the file
constexpr int64_t kLineNumbers = 16;  // of a cache line

int64_t floor_half(int64_t n) { return n >= 0 ? n / 2 : -((1 - n) / 2); }

/// How the output positions of one kind read one axis: position i reads pixels i * step + first + [0, taps).
struct Axis {
  int64_t taps = 0;
  int64_t first = 0;
  int64_t step = 1;
  int64_t tap_of[kSide] = {};  ///< the tap that takes each of the kernel's weights
};

/// The axis for output positions 2 i + phase if pixels are doubled and not skipped again, for all positions else.
Axis axis_of(const Conv2d& conv, int64_t phase) {
  const int64_t before = conv.padding == Padding::same ? 1 : 0;
  if (conv.upsampling == 1) return {.taps = kSide, .first = -before, .step = conv.stride, .tap_of = {0, 1, 2}};
  Axis axis = {.taps = 2, .first = floor_half(phase - before)};
  for (int64_t k = 0; k < kSide; ++k) axis.tap_of[k] = floor_half(phase + k - before) - axis.first;
  return axis;
}

/// Row i: what the kernel sees at output pixel i of a kind, (tap row, tap column, channel).
class Neighbourhoods final : public LeftMatrix {
 public:
  /// `lines`, `columns`: output pixels of this kind in a picture.
  Neighbourhoods(const Tensor& x, const Axis& down, const Axis& across, int64_t lines, int64_t columns)
      : x_(x), down_(down), across_(across), lines_(lines), columns_(columns) {}

  int64_t run() const override { return across_.taps * channels(); }

  RowView in_place(const LeftRange& range) const override {
    const int64_t tap_line = range.begin / run();
    const int64_t first = column_of(range.row), last = column_of(range.row + range.rows - 1) + across_.taps - 1;
    const int64_t line = line_of(range.row, tap_line);
    if (line < 0 || line >= height() || first < 0 || last >= width()) return {};
    return {pixel(range.row, line, first) + (range.begin - tap_line * run()), across_.step * channels()};
  }

  void copy(const LeftRange& range, float* to) const override {
    for (int64_t row = range.row; row < range.row + range.rows; ++row)
      for (int64_t at = range.begin; at < range.end;) {
        const int64_t tap = at / channels();
        const int64_t channel = at - tap * channels();
        const auto count = std::min(channels() - channel, range.end - at);
        const int64_t line = line_of(row, tap / across_.taps);
        const int64_t column = column_of(row) + tap % across_.taps;
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
  int64_t line_of(int64_t row, int64_t tap) const { return row / columns_ % lines_ * down_.step + down_.first + tap; }
  int64_t column_of(int64_t row) const { return row % columns_ * across_.step + across_.first; }
  const float* pixel(int64_t row, int64_t line, int64_t column) const {
    const int64_t picture = row / (columns_ * lines_);
    return x_.data<const float>() + ((picture * height() + line) * width() + column) * channels();
  }

  const Tensor& x_;
  Axis down_, across_;
  int64_t lines_, columns_;
};

/// The kernel (out, taps * taps * in) whose taps are the sums of those that fall on one pixel.
Weight kernel_of(const Conv2d& conv, const Axis& down, const Axis& across) {
  const int64_t in = conv.in(), out = conv.out(), taps = down.taps * across.taps;
  if (taps == kSide * kSide) return dense_weight(conv.weight.reshape({out, taps * in}));
  const Tensor weight = to_f32(conv.weight);
  const Tensor sums = host_tensor({out, taps * in}, DType::f32);
  std::fill_n(sums.data<float>(), sums.count(), 0.0f);
  const float* from = weight.data<const float>();
  for (int64_t o = 0; o < out; ++o)
    for (int64_t ky = 0; ky < kSide; ++ky)
      for (int64_t kx = 0; kx < kSide; ++kx, from += in) {
        float* to = sums.data<float>() + (o * taps + down.tap_of[ky] * across.taps + across.tap_of[kx]) * in;
        for (int64_t i = 0; i < in; ++i) to[i] += from[i];
      }
  return dense_weight(sums);
}

/// The output pixels whose positions are `phases` apart, from (line, column) on.
struct PixelKind {
  Neighbourhoods rows;
  Weight kernel;
  int64_t count = 0;
  ResultRows result;
};

PixelKind kind_of(const Tensor& out, const Tensor& x, const Conv2d& conv, int64_t phases, int64_t line,
                  int64_t column) {
  const int64_t lines = out.dim(1) / phases, columns = out.dim(2) / phases, row_numbers = out.dim(2) * out.dim(3);
  const Axis down = axis_of(conv, line), across = axis_of(conv, column);
  return {.rows = Neighbourhoods(x, down, across, lines, columns),
          .kernel = kernel_of(conv, down, across),
          .count = out.dim(0) * lines * columns,
          .result = {.first = line * row_numbers + column * out.dim(3),
                     .stride = phases * out.dim(3),
                     .rows_of_line = columns,
                     .line_stride = phases * row_numbers}};
}

}  // namespace

void CpuKernels::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const int64_t phases = std::max(1, conv.upsampling / conv.stride);
  std::vector<PixelKind> kinds;
  for (int64_t line = 0; line < phases; ++line)
    for (int64_t column = 0; column < phases; ++column) kinds.push_back(kind_of(out, x, conv, phases, line, column));

  const Epilogue epilogue = {.residual = residual};
  std::vector<MatrixProduct> products;
  for (const PixelKind& kind : kinds)
    products.push_back({.left = &kind.rows,
                        .rows = kind.count,
                        .weight = &kind.kernel,
                        .bias = conv.bias.data<const float>(),
                        .epilogue = &epilogue,
                        .y = out.data<float>(),
                        .result = kind.result});
  run_products(products, pool_, vector_, scratch_);
}

}  // namespace inkstone
