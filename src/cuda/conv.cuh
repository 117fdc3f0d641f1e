// What all kernels of convolutions share.
#pragma once
#include "cuda/numbers.cuh"

namespace inkstone::cuda {

constexpr int kSide = 3;  // of a kernel

__host__ __device__ inline int64_t pixels_of(const Convolution& c) { return c.count * c.out_height * c.out_width; }

/// An output pixel, and the upsampled input's position under the kernel's first row and column.
struct Window {
  bool exists;
  int64_t picture;
  int row, column;

  __device__ Window(const Convolution& c, int64_t pixel)
      : exists(pixel < c.count * c.out_height * c.out_width),
        picture(pixel / (c.out_height * c.out_width)),
        row(static_cast<int>(pixel / c.out_width % c.out_height) * c.stride - c.before),
        column(static_cast<int>(pixel % c.out_width) * c.stride - c.before) {}

  /// The input pixel under a tap; negative where the kernel hangs over the border.
  __device__ int64_t under(const Convolution& c, int tap) const {
    const int y = row + tap / kSide, x = column + tap % kSide;
    const bool inside = exists && y >= 0 && y < c.height * c.upsampling && x >= 0 && x < c.width * c.upsampling;
    return inside ? (picture * c.height + y / c.upsampling) * c.width + x / c.upsampling : -1;
  }
};

/// Adds bias and residual to sums and writes them, two output channels at a time where that is possible.
class ConvolutionWriter {
 public:
  __device__ explicit ConvolutionWriter(const ConvolutionProduct& p)
      : p_(p),
        residual_(static_cast<const float*>(p.residual.data)),
        out_(static_cast<float*>(p.out.data)),
        pixels_(pixels_of(p.shape)),
        in_pairs_(p.shape.out % 2 == 0 && fits(p.bias, sizeof(float2)) && fits(p.residual.data, sizeof(float2)) &&
                  fits(p.out.data, sizeof(float2))) {}

  /// Of the channels `o`, which is even, and o + 1.
  __device__ void put(int64_t pixel, int64_t o, float a, float b) const {
    if (pixel >= pixels_ || o >= p_.shape.out) return;
    const int64_t i = pixel * p_.shape.out + o;
    if (in_pairs_) {
      const float2 bias = reinterpret_cast<const float2*>(p_.bias + o)[0];
      const float2 added = residual_ == nullptr ? make_float2(0, 0) : reinterpret_cast<const float2*>(residual_ + i)[0];
      reinterpret_cast<float2*>(out_ + i)[0] = make_float2(a + bias.x + added.x, b + bias.y + added.y);
      return;
    }
    out_[i] = a + p_.bias[o] + (residual_ == nullptr ? 0.0f : residual_[i]);
    if (o + 1 < p_.shape.out) out_[i + 1] = b + p_.bias[o + 1] + (residual_ == nullptr ? 0.0f : residual_[i + 1]);
  }

 private:
  const ConvolutionProduct& p_;
  const float* residual_;
  float* out_;
  int64_t pixels_;
  bool in_pairs_;
};

}  // namespace inkstone::cuda
