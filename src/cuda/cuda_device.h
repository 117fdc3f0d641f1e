// NVIDIA graphics processors, where this program was built with CUDA.
#pragma once
#include <fmt/format.h>
#include <memory>
#include <string>

#include "cuda/cuda_findings.h"
#include "ops/device.h"

namespace inkstone {

/// What products, convolutions and attention are computed in.
enum class CudaArithmetic : uint8_t {
  f32,      ///< every weight widened exactly, no TF32
  bf16,     ///< operands rounded to bf16, sums in f32; what only a product reads is stored in bf16 too
  fp8,      ///< the same, but E4M3 with a scale for each row in products of layers that tolerate rounding
  int8,     ///< the same, but mixed codes (ops/mixed_order.h) there
  fp8_all,  ///< fp8, and long rows of attention over heads of 128 in 8 bits (attention_8bit.cu)
};

/// Of a device's memory, what CUDA's context and the kernels that it and cuBLAS load take beside the pool: 0.60 to 0.62
/// GB on an H100 and an H200 with CUDA 13.0.
inline constexpr size_t kCudaOwnBytes = size_t{640} << 20;

struct CudaOptions {
  int index = 0;  ///< which of the machine's devices
  CudaArithmetic arithmetic = CudaArithmetic::bf16;
  size_t memory_limit = 0;  ///< of the device's memory, kCudaOwnBytes included; 0: what is free, but for a reserve
  bool ampere_kernels =
      false;  ///< those that every device can run, on newer ones too, so that they can be tested there
};

/// The device as its user names it.
inline std::string cuda_option(int index) { return index == 0 ? "cuda" : fmt::format("cuda:{}", index); }

/// Looks for a device and for all that using it takes. Makes no use of it yet.
CudaFindings find_cuda(int index = 0);

/// Why that device cannot be used: not built with CUDA, no driver or an old one, no such device or an old one, no
/// cuBLASLt. Empty if it can.
inline std::string why_no_cuda(int index = 0) { return obstacle_of(find_cuda(index)).text(); }

/// Throws Error if there is no such device, it is too old, also for fp8, or a library is missing, or if memory_limit is
/// less than what is taken without any tensor.
std::unique_ptr<Device> make_cuda_device(const CudaOptions& options = {});

}  // namespace inkstone
