// What a 3x3 kernel sees at each output pixel, as rows of a matrix.
#include "cuda/numbers.cuh"

namespace inkstone::cuda {
namespace {

constexpr int64_t kSide = 3;

/// Channels of one tap at one output pixel, one or four for each thread.
template <int kChannels>
__global__ void gather(Output out, Convolution c, int64_t first, int64_t count) {
  const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kChannels;
  if (i >= count) return;
  const int64_t channel = i % c.in, tap = i / c.in % (kSide * kSide), pixel = first + i / (c.in * kSide * kSide);
  const int64_t column = pixel % c.out_width * c.stride - c.before + tap % kSide;
  const int64_t row = pixel / c.out_width % c.out_height * c.stride - c.before + tap / kSide;
  const int64_t picture = pixel / (c.out_width * c.out_height);
  const bool inside = row >= 0 && row < c.height * c.upsampling && column >= 0 && column < c.width * c.upsampling;
  const int64_t from = ((picture * c.height + row / c.upsampling) * c.width + column / c.upsampling) * c.in + channel;
  if constexpr (kChannels == 1) {
    store(out, i, inside ? load(c.x, from) : 0.0f);
  } else {
    store4(out, i, inside ? load4(c.x, from) : make_float4(0, 0, 0, 0));
  }
}

}  // namespace

void im2col(const Output& out, const Convolution& c, int64_t first, int64_t rows, cudaStream_t stream) {
  const int64_t count = rows * c.in * kSide * kSide;
  if (count == 0) return;
  if (fours(out, c.in) && fours(c.x, c.in)) {
    gather<4><<<blocks_for(count / 4), kThreads, 0, stream>>>(out, c, first, count);
  } else {
    gather<1><<<blocks_for(count), kThreads, 0, stream>>>(out, c, first, count);
  }
}

}  // namespace inkstone::cuda
