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

struct AxisFrequencies {
  explicit AxisFrequencies(const std::array<int64_t, 3>& axes)
      : frame(frequencies(axes[0], kTransformerTheta)),
        row(frequencies(axes[1], kTransformerTheta)),
        column(frequencies(axes[2], kTransformerTheta)) {}

  float* write(float* out, int64_t f, int64_t r, int64_t c) const {
    out = write_axis(out, static_cast<float>(f), frame);
    out = write_axis(out, static_cast<float>(r), row);
    return write_axis(out, static_cast<float>(c), column);
  }

  std::vector<float> frame, row, column;
};

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
  const AxisFrequencies frequency(axes);
  Tensor out = table(count * grid.tokens(), axes[0] + axes[1] + axes[2]);
  float* to = out.data<float>();
  const int64_t top = grid.height - grid.height / 2;
  const int64_t left = grid.width - grid.width / 2;
  for (int64_t image = 0; image < count; ++image)
    for (int64_t r = 0; r < grid.height; ++r)
      for (int64_t c = 0; c < grid.width; ++c) to = frequency.write(to, 0, r - top, c - left);
  return out;
}

Tensor text_rope(const Sequences& sequences, const Grid& grid, const std::array<int64_t, 3>& axes) {
  const AxisFrequencies frequency(axes);
  Tensor out = table(sequences.rows(), axes[0] + axes[1] + axes[2]);
  float* to = out.data<float>();
  const int64_t start = std::max(grid.height / 2, grid.width / 2);
  for (int64_t s = 0; s < sequences.count(); ++s)
    for (int64_t i = 0; i < sequences.length(s); ++i) to = frequency.write(to, start + i, start + i, start + i);
  return out;
}

}  // namespace inkstone
