#include "peaks.h"

#include <cstdio>

#include "core/error.h"
#include "core/system_limits.h"
#include "cuda/cuda_device.h"
#include "engine/device_peak.h"

namespace ladder {
namespace {

using namespace inkstone;

void print_product(const char* name, CudaArithmetic arithmetic) try {
  const auto device = make_cuda_device({.arithmetic = arithmetic});
  Ops ops(*device);
  const ProductPeak product(*device, RandomFormat::bf16, usable_processors());
  std::printf("8192x8192x8192 in %s: %.0f T/s\n", name, product.measure(ops) * 1e-12);
} catch (const Error& error) {
  std::printf("8192x8192x8192 in %s: %s\n", name, error.what());
}

}  // namespace

double print_peaks() {
  print_product("bf16", CudaArithmetic::bf16);
  print_product("fp8 with rounding", CudaArithmetic::fp8);
  const auto device = make_cuda_device();
  Ops ops(*device);
  const double copy = measure_copy_peak(*device, ops);
  std::printf("copying 1 GiB: %.0f GB/s read and written\n", copy * 1e-9);
  return copy;
}

}  // namespace ladder
