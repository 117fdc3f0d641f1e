// 3x3 convolutions with Hopper's copies of boxes: what a tap sees of a square of 16x16 pixels is a box of the picture,
// with zeros outside. One thread copies boxes and weights, two warpgroups multiply, each 128 pixels with all output
// channels of the tile. Blocks stay and take tile after tile, so that the next tile's copies run while results are
// written.
#include "cuda/conv.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kBox = 16;              // pixels of a side of a tile
constexpr int kPixels = kBox * kBox;  // of a tile
constexpr int kGroup = 128;           // threads of a warpgroup
constexpr int kBoxThreads = 3 * kGroup;
constexpr int kDepth = 64;  // channels of a step
constexpr int kRowBytes = kDepth * 2;
constexpr int kBoxStages = 4;
constexpr uint32_t kPixelBytes = kPixels * kRowBytes;
constexpr int kWide = 192, kNarrow = 96;  // output channels of a tile

template <int kOuts>
constexpr uint32_t kStageBytes = kPixelBytes + kOuts* kRowBytes;
template <int kOuts>
constexpr int kSharedBytes = kBoxStages* kStageBytes<kOuts> + 1024;  // and room to align

struct BoxConvolution {
  ConvolutionProduct product;
  CUtensorMap pixels, weights;
  int boxes_x, boxes_y, out_tiles, tiles;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a tile lies.
struct BoxTile {
  int x, y, picture, out;

  template <int kOuts>
  __device__ static BoxTile at(const BoxConvolution& c, int index) {
    const int box = index / c.out_tiles;
    return {box % c.boxes_x * kBox, box / c.boxes_x % c.boxes_y * kBox, box / (c.boxes_x * c.boxes_y),
            index % c.out_tiles * kOuts};
  }
};

/// Stages of shared memory in the order of their use.
template <int kOuts>
struct BoxStages {
  uint32_t base, barriers;
  int used = 0;

  __device__ uint32_t pixels() const { return base + used % kBoxStages * kStageBytes<kOuts>; }
  __device__ uint32_t weights() const { return pixels() + kPixelBytes; }
  __device__ int phase() const { return used / kBoxStages % 2; }
  __device__ Barrier full() const { return {barriers + used % kBoxStages * 8}; }
  __device__ Barrier free(int behind = 0) const { return {barriers + (kBoxStages + (used - behind) % kBoxStages) * 8}; }
};

template <int kOuts>
__device__ void copy_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  const int in = static_cast<int>(c.product.shape.in), before = c.product.shape.before;
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    const BoxTile tile = BoxTile::at<kOuts>(c, index);
    for (int tap = 0; tap < kTaps; ++tap)
      for (int channel = 0; channel < in; channel += kDepth, ++stages.used) {
        stages.free().wait(1 - stages.phase());
        stages.full().arrive_expecting(kStageBytes<kOuts>);
        copy_box(stages.pixels(), c.pixels, stages.full(), channel, tile.x + tap % kSide - before,
                 tile.y + tap / kSide - before, tile.picture);
        copy_box(stages.weights(), c.weights, stages.full(), tap * in + channel, tile.out);
      }
  }
}

/// Sums of 64 pixels, with bias and residual. Several residuals are on their way before the first is used.
template <int kOuts>
__device__ void write_sums(const BoxConvolution& c, const BoxTile& tile, int first_row,
                           const float (&sums)[kOuts / 2]) {
  constexpr int kAtOnce = 6;  // pairs of channels
  static_assert(kOuts / 8 % kAtOnce == 0);
  const Convolution& shape = c.product.shape;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4 + half * 8;
    const int64_t y = tile.y + row / kBox, x = tile.x + row % kBox;
    if (y >= shape.out_height || x >= shape.out_width) continue;
    const int out = tile.out + lane % 4 * 2;
    const int64_t to = ((tile.picture * shape.out_height + y) * shape.out_width + x) * shape.out + out;
    const auto* residual = static_cast<const float*>(c.product.residual.data);
#pragma unroll
    for (int first = 0; first < kOuts / 8; first += kAtOnce) {
      float2 added[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int o = 8 * (first + j);
        added[j] = make_float2(0, 0);
        if (out + o >= shape.out) continue;
        if (residual != nullptr) added[j] = __ldg(reinterpret_cast<const float2*>(residual + to + o));
        const float2 bias = __ldg(reinterpret_cast<const float2*>(c.product.bias + out + o));
        added[j].x += bias.x;
        added[j].y += bias.y;
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int o = 8 * (first + j), e = 4 * (first + j) + 2 * half;
        if (out + o < shape.out)
          *reinterpret_cast<float2*>(static_cast<float*>(c.product.out.data) + to + o) =
              make_float2(sums[e] + added[j].x, sums[e + 1] + added[j].y);
      }
    }
  }
}

template <int kOuts>
__device__ void multiply_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  const int in = static_cast<int>(c.product.shape.in);
  const uint32_t first_row = (threadIdx.x / kGroup - 1) * kGroup;
  const bool speaks = threadIdx.x % kWarp == 0;
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    float upper[kOuts / 2] = {}, lower[kOuts / 2] = {};
    pin(upper);
    pin(lower);
    int channel = 0;
    for (int step = 0, steps = kTaps * ((in + kDepth - 1) / kDepth); step < steps; ++step, ++stages.used) {
      stages.full().wait(stages.phase());
      const uint32_t pixels = stages.pixels() + first_row * kRowBytes, weights = stages.weights();
      const auto multiply = [&]<int kSteps>() {
        begin_products();
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          multiply_async(upper, describe(pixels + k * 32, 16), describe(weights + k * 32, 16));
          multiply_async(lower, describe(pixels + 64 * kRowBytes + k * 32, 16), describe(weights + k * 32, 16));
        }
      };
      in - channel >= kDepth ? multiply.template operator()<kDepth / 16>()
                             : multiply.template operator()<kDepth / 32>();  // half of a step is left
      commit_products();
      wait_products<1>();
      if (step > 0 && speaks) stages.free(1).arrive();
      channel = channel + kDepth < in ? channel + kDepth : 0;
    }
    wait_products<0>();
    pin(upper);
    pin(lower);
    if (speaks) stages.free(1).arrive();
    const BoxTile tile = BoxTile::at<kOuts>(c, index);
    write_sums<kOuts>(c, tile, static_cast<int>(first_row), upper);
    write_sums<kOuts>(c, tile, static_cast<int>(first_row) + 64, lower);
  }
}

#endif

template <int kOuts>
__global__ void __launch_bounds__(kBoxThreads, 1) convolve_boxes(const __grid_constant__ BoxConvolution c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[2 * kBoxStages];
  const BoxStages<kOuts> stages = {(shared_address(memory) + 1023) / 1024 * 1024, shared_address(barriers)};
  if (threadIdx.x == 0) {
    constexpr int kReaders = 2 * kGroup / kWarp;
    for (int i = 0; i < kBoxStages; ++i) {
      Barrier{stages.barriers + i * 8}.init(1);
      Barrier{stages.barriers + (kBoxStages + i) * 8}.init(kReaders);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    leave_registers<24>();
    if (threadIdx.x == 0) copy_boxes<kOuts>(c, stages);
  } else {
    take_registers<240>();
    multiply_boxes<kOuts>(c, stages);
  }
#endif
}

template <int kOuts>
void launch(BoxConvolution c, cudaStream_t stream) {
  const Convolution& shape = c.product.shape;
  c.weights = tensor_map({c.product.weight, {kTaps * shape.in, shape.out, 1, 1}, {kDepth, kOuts, 1, 1}});
  c.out_tiles = static_cast<int>(blocks_for(shape.out, kOuts));
  c.tiles = c.boxes_x * c.boxes_y * static_cast<int>(shape.count) * c.out_tiles;
  cudaFuncSetAttribute(convolve_boxes<kOuts>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<kOuts>);
  int device = 0, processors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  convolve_boxes<kOuts>
      <<<static_cast<unsigned>(std::min(c.tiles, processors)), kBoxThreads, kSharedBytes<kOuts>, stream>>>(c);
}

bool fits_pairs(const void* data) { return reinterpret_cast<uintptr_t>(data) % sizeof(float2) == 0; }

}  // namespace

bool suits_boxes(const ConvolutionProduct& c) {
  const Convolution& s = c.shape;
  return s.stride == 1 && s.upsampling == 1 && s.in >= kDepth && s.in % (kDepth / 2) == 0 && s.out >= kDepth &&
         s.out % 2 == 0 && fits_pairs(c.bias) && fits_pairs(c.residual.data) && fits_pairs(c.out.data);
}

void conv2d_boxes(const ConvolutionProduct& product, cudaStream_t stream) {
  const Convolution& shape = product.shape;
  if (pixels_of(shape) == 0) return;
  BoxConvolution c = {};
  c.product = product;
  c.pixels = tensor_map({shape.x.data, {shape.in, shape.width, shape.height, shape.count}, {kDepth, kBox, kBox, 1}});
  c.boxes_x = static_cast<int>(blocks_for(shape.out_width, kBox));
  c.boxes_y = static_cast<int>(blocks_for(shape.out_height, kBox));
  shape.out % kWide == 0 ? launch<kWide>(c, stream) : launch<kNarrow>(c, stream);
}

}  // namespace inkstone::cuda
