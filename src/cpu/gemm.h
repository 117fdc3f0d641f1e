// Matrix products by oneDNN, each on one thread: the device's own pool shares out the work.
#pragma once
#include <cstdint>
#include <string>

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

/// While it lives, oneDNN runs on the calling thread alone. The thread's OpenMP settings are restored at the end.
class OneDnnOnThisThread {
 public:
  OneDnnOnThisThread();
  ~OneDnnOnThisThread();
  OneDnnOnThisThread(const OneDnnOnThisThread&) = delete;
  OneDnnOnThisThread& operator=(const OneDnnOnThisThread&) = delete;

 private:
  int threads_before_;
};

/// The caller holds a OneDnnOnThisThread. Throws Error when oneDNN cannot get its buffers.
void gemm(const Gemm& g);

/// "oneDNN 2.6.3, AVX-512": the library and the instruction set that it uses here.
std::string describe_onednn();

}  // namespace inkstone
