// What a 3x3 kernel sees at each output pixel, as rows of a matrix.
#include "cuda/conv.cuh"

namespace inkstone::cuda {
namespace {

/// Channels of one tap at one output pixel, one or four for each thread.
template <int kChannels>
__global__ void gather(Output out, Convolution c, int64_t first, int64_t count) {
  const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kChannels;
  if (i >= count) return;
  const Window window(c, first + i / (c.in * kTaps));
  const int64_t pixel = window.under(c, static_cast<int>(i / c.in % kTaps)), from = pixel * c.in + i % c.in;
  if constexpr (kChannels == 1) {
    store(out, i, pixel < 0 ? 0.0f : load(c.x, from));
  } else {
    store4(out, i, pixel < 0 ? make_float4(0, 0, 0, 0) : load4(c.x, from));
  }
}

}  // namespace

void im2col(const Output& out, const Convolution& c, int64_t first, int64_t rows, cudaStream_t stream) {
  const int64_t count = rows * c.in * kTaps;
  if (count == 0) return;
  if (fours(out, c.in) && fours(c.x, c.in)) {
    gather<4><<<blocks_for(count / 4), kThreads, 0, stream>>>(out, c, first, count);
  } else {
    gather<1><<<blocks_for(count), kThreads, 0, stream>>>(out, c, first, count);
  }
}

}  // namespace inkstone::cuda
