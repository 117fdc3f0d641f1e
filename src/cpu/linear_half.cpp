// Linear layers in 16 bits: rows are rounded once, weights panel by panel.
#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"

namespace inkstone {

HalfRows CpuKernels::in_halves(const Tensor& x, Tensor& memory) {
  const int64_t n = x.dim(0), width = x.dim(1), stride = half_stride(width);
  memory = host_tensor({half_bytes(n, width)}, DType::u8);
  auto* places = static_cast<float*>(memory.data<void>());
  const HalfRows rows = {places, stride, places + n * stride};
  for_row_blocks(pool_, n, width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      half_->round_row(x.data<const float>() + i * width, width, rows.places + i * stride, rows.scales + i);
  });
  return rows;
}

}  // namespace inkstone
