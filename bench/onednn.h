// The peer of matrix products and convolutions: oneDNN, as the system has it.
#pragma once
#include <memory>

#include "core/tensor.h"

namespace inkstone {

/// y (m, n) = x (m, k) wᵀ with w (n, k), all f32 and row-major; strides in numbers from row to row.
struct Gemm {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* w = nullptr;
  int64_t w_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;  ///< y += instead of y =
};

/// Throws Error when oneDNN cannot get its buffers.
void gemm(const Gemm& g);

/// The number of threads that oneDNN uses for calls of this thread. What was set before is restored at the end.
class OneDnnThreads {
 public:
  explicit OneDnnThreads(int threads);
  ~OneDnnThreads();
  OneDnnThreads(const OneDnnThreads&) = delete;
  OneDnnThreads& operator=(const OneDnnThreads&) = delete;

 private:
  int threads_before_;
};

/// out (count, h, w, out) = 3x3 convolution of x (count, h, w, in) with one row of zeros on every side, no bias;
/// channels last, the weights already in the order that oneDNN likes.
class OneDnnConvolution {
 public:
  OneDnnConvolution(const Tensor& x, const Tensor& weight, const Tensor& out);  ///< weight (out, 3, 3, in)
  ~OneDnnConvolution();
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// y (m, n) f32 = x (m, k) u8 times w (n, k) s8 times a scale; the weights already in the order that oneDNN likes. The
/// fastest 8-bit product that it has: one scale, codes that are there already.
class OneDnnInt8Product {
 public:
  OneDnnInt8Product(int64_t m, int64_t n, int64_t k);
  ~OneDnnInt8Product();
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace inkstone
