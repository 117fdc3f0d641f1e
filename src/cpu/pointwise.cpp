#include <cmath>
#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"

namespace inkstone {
void CpuKernels::swiglu(Tensor& out, const Tensor& x) {
  const int64_t m = out.dim(1);
  for_row_blocks(pool_, out.dim(0), m, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* gate = x.data<const float>() + i * 2 * m;
      vector_.swiglu(gate, gate + m, m, out.data<float>() + i * m);
    }
  });
}

void CpuKernels::timestep_embedding(Tensor& out, const Tensor& t) {
  constexpr double kTimeScale = 1000;  // Timesteps(scale=1000) of diffusers
  constexpr double kLongestPeriod = 10000;
  const int64_t half = out.dim(1) / 2;
  for (int64_t j = 0; j < half; ++j) {
    const double frequency = std::pow(kLongestPeriod, -static_cast<double>(j) / static_cast<double>(half));
    for (int64_t i = 0; i < t.dim(0); ++i) {
      const double angle = kTimeScale * t.data<const float>()[i] * frequency;  // f32 would be off by 3e-5 at 1000 rad
      out.data<float>()[i * 2 * half + j] = static_cast<float>(std::cos(angle));
      out.data<float>()[i * 2 * half + half + j] = static_cast<float>(std::sin(angle));
    }
  }
}

void CpuKernels::guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  const int64_t d = x.dim(1);
  const float *cond = guidance.cond.data<const float>(), *uncond = guidance.uncond.data<const float>();
  const float scale = guidance.scale.data<const float>()[0], by = factor.data<const float>()[0];
  for_row_blocks(pool_, x.dim(0), d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      vector_.guided_step(x.data<const float>() + i * d, cond + i * d, uncond + i * d, scale, by, d,
                          out.data<float>() + i * d);
  });
}

void CpuKernels::add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) {
  for_row_blocks(pool_, x.count(), 1, [&](int64_t begin, int64_t end) {
    vector_.add_scaled(x.data<const float>() + begin, y.data<const float>() + begin, factor.data<const float>()[0],
                       end - begin, out.data<float>() + begin);
  });
}

void CpuKernels::scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const int64_t d = x.dim(-1);
  for_row_blocks(pool_, x.shape().rows(), d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      vector_.scale_shift(x.data<const float>() + i * d, scale.data<const float>(), shift.data<const float>(), d,
                          out.data<float>() + i * d);
  });
}

void CpuKernels::concat_rows(Tensor& out, std::span<const Tensor> parts) {
  float* to = out.data<float>();
  for (const Tensor& part : parts) {
    for_row_blocks(pool_, part.count(), 1, [&](int64_t begin, int64_t end) {
      std::memcpy(to + begin, part.data<const float>() + begin, static_cast<size_t>(end - begin) * sizeof(float));
    });
    to += part.count();
  }
}

void CpuKernels::to_rgb8(Tensor& out, const Tensor& x) {
  for_row_blocks(pool_, x.count(), 1, [&](int64_t begin, int64_t end) {
    vector_.to_bytes(x.data<const float>() + begin, end - begin, out.data<uint8_t>() + begin);
  });
}

void CpuKernels::from_rgb8(Tensor& out, const Tensor& x) {
  for_row_blocks(pool_, x.count(), 1, [&](int64_t begin, int64_t end) {
    const uint8_t* from = x.data<const uint8_t>();
    float* to = out.data<float>();
    for (int64_t i = begin; i < end; ++i) to[i] = 2.0f * (static_cast<float>(from[i]) / 255.0f) - 1.0f;
  });
}

}  // namespace inkstone
