// See cutlass_products.h.
#include "cutlass_products.cuh"

namespace ladder {

std::vector<Step> cutlass_fp8(const CutlassOperands& o) {
  // Sums stay in the tensor cores throughout, as in what it is measured against.
  using Together = cutlass::gemm::KernelTmaWarpSpecializedCooperativeFP8FastAccum;
  using InTurns = cutlass::gemm::KernelTmaWarpSpecializedPingpongFP8FastAccum;
  return cutlass_steps<E4m3, Together, InTurns>(o);
}

}  // namespace ladder
