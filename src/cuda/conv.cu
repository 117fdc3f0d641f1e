// 3x3 convolutions as one matrix product whose left side is gathered while it is multiplied: rows are output pixels,
// columns (tap, channel). Eight warps share a tile of 128 pixels and 96 output channels; the VAE's widths are multiples
// of 96. Copies run kStages - 1 steps ahead.
#include "cuda/conv.cuh"
#include "cuda/device_limits.cuh"
#include "cuda/tensor_core.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kPixels = 128, kOuts = 96;  // of a block's tile
constexpr int kWarpPixels = 32, kWarpOuts = 48;
constexpr int kDepth = 32;  // channels of a step
constexpr int kChunks = kDepth / 8;
constexpr int kStages = 4;
constexpr int kStageBytes = (kPixels + kOuts) * kDepth * 2;

/// Rows of kDepth numbers in shared memory; chunks change places so that eight rows of a column never meet in a bank.
__device__ uint32_t address(uint32_t base, int row, int chunk) {
  return base + static_cast<uint32_t>(row * kDepth * 2 + ((chunk ^ (row >> 1)) & 3) * 16);
}

/// What a thread copies at each step: a chunk of two pixels and of one or two output channels. Steps follow one
/// another, all channels of a tap and then the next tap, so that places are worked out only where the tap changes.
class Copier {
 public:
  __device__ Copier(const ConvolutionProduct& p, uint32_t shared, int64_t first_pixel, int64_t first_out)
      : shape_(p.shape),
        shared_(shared),
        windows_{Window(p.shape, first_pixel + row()), Window(p.shape, first_pixel + row() + kRows)},
        channel_(chunk() * 8) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t o = first_out + row() + i * kRows;
      const bool exists = o < p.shape.out && row() + i * kRows < kOuts;
      weights_[i] = exists ? static_cast<const __nv_bfloat16*>(p.weight) + o * kTaps * p.shape.in : nullptr;
    }
    look();
  }

  __device__ void copy(int step) {
    const uint32_t pixels = shared_ + step % kStages * kStageBytes, weights = pixels + kPixels * kDepth * 2;
    const bool in_range = channel_ < shape_.in;
    const int at = tap_ * static_cast<int>(shape_.in) + channel_;
    const auto* unused = static_cast<const __nv_bfloat16*>(shape_.x.data);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool seen = in_range && pixels_[i] != nullptr, weighed = in_range && weights_[i] != nullptr;
      copy_async(address(pixels, row() + i * kRows, chunk()), seen ? pixels_[i] + channel_ : unused, seen);
      if (row() + i * kRows < kOuts)
        copy_async(address(weights, row() + i * kRows, chunk()), weighed ? weights_[i] + at : unused, weighed);
    }
    channel_ += kDepth;
    if (channel_ - chunk() * 8 < shape_.in) return;
    channel_ = chunk() * 8;
    if (++tap_ < kTaps) look();
  }

 private:
  static constexpr int kRows = kThreads / kChunks;  // that all threads copy at once
  __device__ static int chunk() { return threadIdx.x % kChunks; }
  __device__ static int row() { return threadIdx.x / kChunks; }

  __device__ void look() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t pixel = windows_[i].under(shape_, tap_);
      pixels_[i] = pixel < 0 ? nullptr : static_cast<const __nv_bfloat16*>(shape_.x.data) + pixel * shape_.in;
    }
  }

  const Convolution& shape_;
  uint32_t shared_;
  Window windows_[2];
  const __nv_bfloat16* pixels_[2];   // under the tap; null where there is none
  const __nv_bfloat16* weights_[2];  // of output channels; null behind the last
  int tap_ = 0, channel_;
};

using Sums = float[2][kWarpOuts / 8][4];

__device__ void multiply(Sums& sums, uint32_t stage) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first_pixel = warp / 2 * kWarpPixels, first_out = warp % 2 * kWarpOuts;
  const uint32_t weights = stage + kPixels * kDepth * 2;
#pragma unroll
  for (int half = 0; half < kDepth / 16; ++half) {
    uint32_t pixel[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m)
      load_matrices(pixel[m], address(stage, first_pixel + 16 * m + lane % 16, 2 * half + lane / 16));
#pragma unroll
    for (int n = 0; n < kWarpOuts / 16; ++n) {
      uint32_t weight[4];
      load_matrices(weight, address(weights, first_out + 16 * n + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2));
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        multiply_add(sums[m][2 * n], pixel[m], weight[0], weight[1]);
        multiply_add(sums[m][2 * n + 1], pixel[m], weight[2], weight[3]);
      }
    }
  }
}

__device__ void write(const ConvolutionProduct& p, const Sums& sums, int64_t tile_pixel, int64_t tile_out) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const ConvolutionWriter writer(p);
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t pixel = tile_pixel + warp / 2 * kWarpPixels + 16 * m + lane / 4 + half * 8;
#pragma unroll
      for (int n = 0; n < kWarpOuts / 8; ++n)
        writer.put(pixel, tile_out + warp % 2 * kWarpOuts + 8 * n + lane % 4 * 2, sums[m][n][2 * half],
                   sums[m][n][2 * half + 1]);
    }
}

__global__ void __launch_bounds__(kThreads, 2) convolve(const __grid_constant__ ConvolutionProduct p, int out_tiles) {
  extern __shared__ __align__(128) uint8_t memory[];
  const int64_t tile_pixel = int64_t{blockIdx.x / out_tiles} * kPixels;
  const int64_t tile_out = int64_t{blockIdx.x % out_tiles} * kOuts;
  const uint32_t shared = shared_address(memory);
  Copier copier(p, shared, tile_pixel, tile_out);
  const int steps = kTaps * static_cast<int>((p.shape.in + kDepth - 1) / kDepth);
  for (int step = 0; step < kStages - 1; ++step) {
    copier.copy(step);  // there are always at least kTaps steps
    commit_copies();
  }
  Sums sums = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    __syncthreads();
    if (step + kStages - 1 < steps) copier.copy(step + kStages - 1);
    commit_copies();
    multiply(sums, shared + step % kStages * kStageBytes);
  }
  write(p, sums, tile_pixel, tile_out);
}

}  // namespace

void conv2d_mma(const ConvolutionProduct& c, cudaStream_t stream) {
  const int64_t pixels = pixels_of(c.shape);
  if (pixels == 0) return;
  constexpr int kBytes = kStages * kStageBytes;
  allow_shared_memory(convolve, kBytes, "conv2d");
  const auto out_tiles = static_cast<int>(blocks_for(c.shape.out, kOuts));
  convolve<<<blocks_for(pixels, kPixels) * static_cast<unsigned>(out_tiles), kThreads, kBytes, stream>>>(c, out_tiles);
}

}  // namespace inkstone::cuda
