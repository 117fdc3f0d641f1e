// See cutlass_products.h.
#include "cutlass_products.cuh"

namespace ladder {

std::vector<Step> cutlass_bf16(const CutlassOperands& o) {
  using Together = cutlass::gemm::KernelTmaWarpSpecializedCooperative;
  using InTurns = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
  return cutlass_steps<Bf16, Together, InTurns>(o);
}

}  // namespace ladder
