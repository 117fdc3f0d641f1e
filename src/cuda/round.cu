// Rows rounded to 8 bits for products: a block for each.
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

template <int kHeld, bool kActivates>
__global__ void __launch_bounds__(kThreads) round_row(Rounded out, Numbers x, Activation activation, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  Row<kThreads, true, kHeld> row(x, blockIdx.x, d);
  if constexpr (kActivates)
    row.change(Vector{}, Vector{}, [activation](float v, float, float) { return activate(v, activation); });
  row.round(out, blockIdx.x, shared);
}

template <int kHeld>
void launch(const Rounded& out, const Numbers& x, Activation activation, unsigned rows, int64_t d,
            cudaStream_t stream) {
  const auto kernel = activation == Activation::none ? round_row<kHeld, false> : round_row<kHeld, true>;
  kernel<<<rows, kThreads, 0, stream>>>(out, x, activation, d);
}

}  // namespace

void round_rows(const Rounded& out, const Numbers& x, Activation activation, int64_t rows, int64_t d,
                cudaStream_t stream) {
  if (rows == 0) return;
  constexpr int kShort = 4, kLong = kMaxRounded / (4 * kThreads);  // float4 that a thread holds
  if (d <= int64_t{4} * kShort * kThreads)
    return launch<kShort>(out, x, activation, static_cast<unsigned>(rows), d, stream);
  launch<kLong>(out, x, activation, static_cast<unsigned>(rows), d, stream);
}

}  // namespace inkstone::cuda
