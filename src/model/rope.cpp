#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace inkstone {
namespace {

constexpr double kTransformerTheta = 10000;  // QwenImageTransformer2DModel: QwenEmbedRope(theta=10000)

/// 1 / theta^(2k / dim), rounded to f32 at the steps where the reference rounds.
std::vector<float> frequencies(int64_t dim, double theta) {
  std::vector<float> f(static_cast<size_t>(dim / 2));
  for (size_t k = 0; k < f.size(); ++k) {
    const float exponent = static_cast<float>(2 * k) / static_cast<float>(dim);
    f[k] = 1.0f / std::pow(static_cast<float>(theta), exponent);
  }
  return f;
}

/// Writes the pairs of one axis and returns where the next one goes.
float* write_axis(float* out, float position, const std::vector<float>& frequency) {
  for (const float f : frequency) {
    const float angle = position * f;
    *out++ = std::cos(angle);
    *out++ = std::sin(angle);
  }
  return out;
}

/// The pairs of one axis at positions first, first + 1, ...: `count` rows of `dim` numbers. Sines and cosines are slow,
/// and a grid has far fewer rows and columns than tokens.
std::vector<float> axis_rows(int64_t first, int64_t count, int64_t dim) {
  const std::vector<float> frequency = frequencies(dim, kTransformerTheta);
  std::vector<float> out(static_cast<size_t>(count * dim));
  float* to = out.data();
  for (int64_t i = 0; i < count; ++i) to = write_axis(to, static_cast<float>(first + i), frequency);
  return out;
}

Tensor table(int64_t rows, int64_t head_width) { return host_tensor({rows, head_width / 2, 2}, DType::f32); }

}  // namespace

Tensor text_encoder_rope(const Sequences& sequences, int64_t head_width, double theta) {
  const std::vector<float> frequency = frequencies(head_width, theta);
  Tensor out = table(sequences.rows(), head_width);
  float* to = out.data<float>();
  for (int64_t s = 0; s < sequences.count(); ++s)
    for (int64_t i = 0; i < sequences.length(s); ++i) to = write_axis(to, static_cast<float>(i), frequency);
  return out;
}

Tensor image_rope(const Grid& grid, int64_t count, const std::array<int64_t, 3>& axes) {
  const std::vector<float> frame = axis_rows(0, 1, axes[0]);
  const int64_t top = grid.height - grid.height / 2;
  const int64_t left = grid.width - grid.width / 2;
  const std::vector<float> rows = axis_rows(-top, grid.height, axes[1]);
  const std::vector<float> columns = axis_rows(-left, grid.width, axes[2]);
  Tensor out = table(count * grid.tokens(), axes[0] + axes[1] + axes[2]);
  float* const begin = out.data<float>();
  float* to = begin;
  for (int64_t r = 0; r < grid.height; ++r)
    for (int64_t c = 0; c < grid.width; ++c) {
      to = std::copy(frame.begin(), frame.end(), to);
      to = std::copy_n(rows.begin() + r * axes[1], axes[1], to);
      to = std::copy_n(columns.begin() + c * axes[2], axes[2], to);
    }
  const int64_t picture = to - begin;
  for (int64_t image = 1; image < count; ++image) to = std::copy_n(begin, picture, to);
  return out;
}

Tensor text_rope(const Sequences& sequences, const Grid& grid, const std::array<int64_t, 3>& axes) {
  std::array<std::vector<float>, 3> frequency;
  for (size_t axis = 0; axis < axes.size(); ++axis) frequency[axis] = frequencies(axes[axis], kTransformerTheta);
  Tensor out = table(sequences.rows(), axes[0] + axes[1] + axes[2]);
  float* to = out.data<float>();
  const int64_t start = std::max(grid.height / 2, grid.width / 2);
  for (int64_t s = 0; s < sequences.count(); ++s)
    for (int64_t i = 0; i < sequences.length(s); ++i)
      for (const auto& f : frequency) to = write_axis(to, static_cast<float>(start + i), f);
  return out;
}

}  // namespace inkstone
