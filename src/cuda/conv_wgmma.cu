// 3x3 convolutions with Hopper's instructions, gathered as in conv.cu: two warpgroups share a tile of 128 pixels and 96
// output channels, two such blocks a multiprocessor. The (tap, channel) columns are cut without regard to taps, so that
// 96 channels leave no gaps.
#include "cuda/conv.cuh"
#include "cuda/device_limits.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kPixels = 128, kOuts = 96;  // of a block's tile
constexpr int kDepth = 64;                // columns of a step
constexpr int kStages = 3;
constexpr int kRowBytes = kDepth * 2;
constexpr int kStageBytes = (kPixels + kOuts) * kRowBytes;
constexpr int kSharedBytes = kStages * kStageBytes + kSwizzleBytes;  // and room to align

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kChunks = kDepth / 8;
constexpr int kRows = kThreads / kChunks;  // that all threads copy at once

/// What a thread copies at each step: one chunk of some pixels and of some output channels.
class Gatherer {
 public:
  __device__ Gatherer(const ConvolutionProduct& p, int64_t first_pixel, int64_t first_out)
      : p_(p), channel_(chunk() * 8), out_(first_out + row()) {
    const Convolution& c = p.shape;
    weights_ = static_cast<const __nv_bfloat16*>(p.weight) + out_ * kTaps * c.in + channel_;
#pragma unroll
    for (int i = 0; i < kPixels / kRows; ++i) {
      const int64_t pixel = first_pixel + row() + i * kRows;
      const bool exists = pixel < pixels_of(c);
      const auto y = static_cast<int>(pixel / c.out_width % c.out_height), x = static_cast<int>(pixel % c.out_width);
      picture_[i] = static_cast<int>(pixel / (c.out_height * c.out_width) * c.height);
      y_[i] = exists ? y * c.stride - c.before : kNowhere;
      x_[i] = x * c.stride - c.before;
    }
    while (channel_ >= c.in) skip();
    look();
  }

  __device__ void copy(uint32_t stage) {
    const bool in_range = tap_ < kTaps;
    const auto* unused = static_cast<const __nv_bfloat16*>(p_.weight);
#pragma unroll
    for (int i = 0; i < kPixels / kRows; ++i) {
      const bool seen = pixels_[i] != nullptr;
      copy_async(place(stage, row() + i * kRows), seen ? pixels_[i] + channel_ : unused, seen);
    }
    const uint32_t weights = stage + kPixels * kRowBytes;
#pragma unroll
    for (int i = 0; i < kOuts / kRows; ++i) {
      const bool weighed = in_range && out_ + i * kRows < p_.shape.out;
      copy_async(place(weights, row() + i * kRows), weighed ? weights_ + i * kRows * kTaps * p_.shape.in : unused,
                 weighed);
    }
    weights_ += kDepth;
    channel_ += kDepth;
    if (channel_ < p_.shape.in) return;
    while (channel_ >= p_.shape.in) skip();
    look();
  }

 private:
  static constexpr int kNowhere = -(1 << 20);  // no tap reaches the picture from there

  __device__ static int chunk() { return threadIdx.x % kChunks; }
  __device__ static int row() { return threadIdx.x / kChunks; }
  __device__ static uint32_t place(uint32_t base, int r) { return base + r * kRowBytes + (chunk() ^ r % 8) * 16; }

  __device__ void skip() {
    channel_ -= static_cast<int>(p_.shape.in);
    ++tap_;
  }

  /// Finds the pixels under the tap. As Window does, but with fewer registers, and shifts for divisions.
  __device__ void look() {
    const Convolution& c = p_.shape;
    const int shift = c.upsampling - 1, height = static_cast<int>(c.height), width = static_cast<int>(c.width);
#pragma unroll
    for (int i = 0; i < kPixels / kRows; ++i) {
      const int y = y_[i] + tap_ / kSide, x = x_[i] + tap_ % kSide;
      const bool inside = tap_ < kTaps && y >= 0 && y < height << shift && x >= 0 && x < width << shift;
      const int64_t pixel = int64_t{picture_[i] + (y >> shift)} * width + (x >> shift);
      pixels_[i] = inside ? static_cast<const __nv_bfloat16*>(c.x.data) + pixel * c.in : nullptr;
    }
  }

  const ConvolutionProduct& p_;
  int channel_, tap_ = 0;
  int64_t out_;
  const __nv_bfloat16* weights_;
  int picture_[kPixels / kRows], y_[kPixels / kRows], x_[kPixels / kRows];
  const __nv_bfloat16* pixels_[kPixels / kRows];  // under the tap; null where there is none
};

#endif

__global__ void __launch_bounds__(kThreads, 2)
    convolve_hopper(const __grid_constant__ ConvolutionProduct p, int out_tiles) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  const uint32_t shared = swizzle_aligned(shared_address(memory));
  const int64_t tile_pixel = int64_t{blockIdx.x / out_tiles} * kPixels;
  const int64_t tile_out = int64_t{blockIdx.x % out_tiles} * kOuts;
  const int first_row = threadIdx.x / kGroup * 64;  // of the warpgroup
  Gatherer gatherer(p, tile_pixel, tile_out);
  const int steps = (kTaps * static_cast<int>(p.shape.in) + kDepth - 1) / kDepth;
  for (int step = 0; step < kStages - 1; ++step) {
    gatherer.copy(shared + step * kStageBytes);  // there are always two steps
    commit_copies();
  }
  NarrowAccumulator sums = {};
  int stage = 0;
  for (int step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    publish_to_products();
    wait_products<0>();
    __syncthreads();
    const uint32_t pixels = shared + stage * kStageBytes;
    pin(sums);
    begin_products();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k)
      multiply_async(sums, describe(pixels + first_row * kRowBytes + k * kProductDepth),
                     describe(pixels + kPixels * kRowBytes + k * kProductDepth));
    commit_products();
    const int next = stage == 0 ? kStages - 1 : stage - 1;
    if (step + kStages - 1 < steps) gatherer.copy(shared + next * kStageBytes);
    commit_copies();
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  wait_products<0>();
  pin(sums);

  const int lane = threadIdx.x % kWarp;
  const ConvolutionWriter writer(p);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t pixel = tile_pixel + first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4 + half * 8;
#pragma unroll
    for (int j = 0; j < kOuts / 8; ++j)
      writer.put(pixel, tile_out + 8 * j + lane % 4 * 2, sums[4 * j + 2 * half], sums[4 * j + 2 * half + 1]);
  }
#endif
}

}  // namespace

void conv2d_wgmma(const ConvolutionProduct& c, cudaStream_t stream) {
  const int64_t pixels = pixels_of(c.shape);
  if (pixels == 0) return;
  allow_shared_memory(convolve_hopper, kSharedBytes, "conv2d");
  const auto out_tiles = static_cast<int>(blocks_for(c.shape.out, kOuts));
  convolve_hopper<<<blocks_for(pixels, kPixels) * static_cast<unsigned>(out_tiles), kThreads, kSharedBytes, stream>>>(
      c, out_tiles);
}

}  // namespace inkstone::cuda
