// Rows rounded to 8 bits for products: a block for each.
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

template <int kHeld, Activation kActivation>
__global__ void __launch_bounds__(kThreads) round_row(Rounded out, Numbers x, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  Row<kThreads, true, kHeld> row(x, blockIdx.x, d);
  if constexpr (kActivation != Activation::none)
    row.change(Vector{}, Vector{}, [](float v, float, float) {
      return kActivation == Activation::gelu_tanh ? gelu_by_exp(v) : activate(v, kActivation);
    });
  row.round(out, blockIdx.x, shared);
}

template <int kHeld>
void launch(const Rounded& out, const Numbers& x, Activation activation, unsigned rows, int64_t d,
            cudaStream_t stream) {
  switch (activation) {
    case Activation::none:
      return round_row<kHeld, Activation::none><<<rows, kThreads, 0, stream>>>(out, x, d);
    case Activation::silu:
      return round_row<kHeld, Activation::silu><<<rows, kThreads, 0, stream>>>(out, x, d);
    case Activation::gelu_tanh:
      return round_row<kHeld, Activation::gelu_tanh><<<rows, kThreads, 0, stream>>>(out, x, d);
  }
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
