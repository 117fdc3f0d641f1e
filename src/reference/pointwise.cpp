#include <algorithm>

#include "reference/formulas.h"
#include "reference/reference_kernels.h"

namespace inkstone {

void ReferenceKernels::swiglu(Tensor& out, const Tensor& x) {
  const int64_t m = out.dim(1);
  for (int64_t i = 0; i < out.dim(0); ++i)
    for (int64_t j = 0; j < m; ++j) {
      const float* row = x.data<const float>() + i * 2 * m;
      out.data<float>()[i * m + j] = static_cast<float>(silu(row[j]) * row[m + j]);
    }
}

void ReferenceKernels::timestep_embedding(Tensor& out, const Tensor& t) {
  constexpr double kTimeScale = 1000;
  constexpr double kLongestPeriod = 10000;
  const int64_t half = out.dim(1) / 2;
  for (int64_t i = 0; i < t.dim(0); ++i)
    for (int64_t j = 0; j < half; ++j) {
      const double frequency = std::pow(kLongestPeriod, -static_cast<double>(j) / static_cast<double>(half));
      const double angle = kTimeScale * t.data<const float>()[i] * frequency;
      out.data<float>()[i * 2 * half + j] = static_cast<float>(std::cos(angle));
      out.data<float>()[i * 2 * half + half + j] = static_cast<float>(std::sin(angle));
    }
}

void ReferenceKernels::guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  const int64_t d = x.dim(1);
  const double s = guidance.scale.data<const float>()[0];
  for (int64_t i = 0; i < x.dim(0); ++i) {
    const float* c = guidance.cond.data<const float>() + i * d;
    const float* u = guidance.uncond.data<const float>() + i * d;
    double cond_squares = 0, squares = 0;
    for (int64_t j = 0; j < d; ++j) {
      const double guided = u[j] + s * (double{c[j]} - u[j]);
      cond_squares += double{c[j]} * c[j];
      squares += guided * guided;
    }
    const double rescale = squares > 0 ? std::sqrt(cond_squares / squares) : 0;
    for (int64_t j = 0; j < d; ++j) {
      const auto velocity = static_cast<float>((u[j] + s * (double{c[j]} - u[j])) * rescale);
      const double scaled = double{factor.data<const float>()[0]} * velocity;
      out.data<float>()[i * d + j] = static_cast<float>(x.data<const float>()[i * d + j] + scaled);
    }
  }
}

void ReferenceKernels::add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const double scaled = double{factor.data<const float>()[0]} * y.data<const float>()[i];
    out.data<float>()[i] = static_cast<float>(x.data<const float>()[i] + scaled);
  }
}

void ReferenceKernels::scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const int64_t d = x.dim(-1);
  for (int64_t i = 0; i < x.count(); ++i) {
    const double scaled = double{x.data<const float>()[i]} * scale.data<const float>()[i % d];
    out.data<float>()[i] = static_cast<float>(scaled + shift.data<const float>()[i % d]);
  }
}

void ReferenceKernels::concat_rows(Tensor& out, std::span<const Tensor> parts) {
  float* to = out.data<float>();
  for (const Tensor& part : parts) to = std::copy_n(part.data<const float>(), part.count(), to);
}

void ReferenceKernels::to_rgb8(Tensor& out, const Tensor& x) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const double unit = x.data<const float>()[i] / 2.0 + 0.5;
    const double clamped = std::min(std::max(0.0, unit), 1.0);  // in this order NaN becomes 0
    out.data<uint8_t>()[i] = static_cast<uint8_t>(std::nearbyint(255 * clamped));
  }
}

void ReferenceKernels::from_rgb8(Tensor& out, const Tensor& x) {
  for (int64_t i = 0; i < x.count(); ++i)
    out.data<float>()[i] = static_cast<float>(2 * (x.data<const uint8_t>()[i] / 255.0) - 1);
}

}  // namespace inkstone
