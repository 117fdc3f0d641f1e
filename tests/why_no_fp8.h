// Whether there is a GPU that multiplies numbers of 8 bits.
#pragma once
#include <string>

#include "core/error.h"
#include "cuda/cuda_device.h"

namespace inkstone {

/// Why this machine cannot multiply E4M3; empty if it can.
inline std::string why_no_fp8() {
  if (std::string reason = why_no_cuda(); !reason.empty()) return reason;
  try {
    make_cuda_device({.arithmetic = CudaArithmetic::fp8});
    return {};
  } catch (const Error& e) {
    if (std::string_view(e.what()).find("has no such products") == std::string_view::npos) throw;
    return e.what();
  }
}

}  // namespace inkstone
