// 3x3 convolutions with Hopper's copies of boxes: what all taps see of a tile of 8x32 pixels is a box of the picture,
// with zeros outside. A product takes eight pixels of a row after the other, from wherever its tap begins in the box.
// One thread copies boxes and weights, two warpgroups multiply, each 128 pixels with all output channels of the tile.
// Blocks stay and take tile after tile, so that the next tile's copies run while results are
// written.
#include "cuda/conv_boxes.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kTileY = 32;  // pixel rows of a tile
constexpr int kDepth = 64;  // channels of a step
constexpr int kRowBytes = kDepth * 2;
constexpr uint32_t kPixelBytes = kBoxX * (kTileY + kSide - 1) * kRowBytes;
constexpr uint32_t kPixelRoom = swizzle_aligned(kPixelBytes);

/// Pixels for a step of channels, weights for a tap of it.
template <int kOuts>
struct BoxStages {
  using Pixels = Ring<2, kPixelRoom>;
  using Weights = Ring<5, kOuts * kRowBytes>;
  static constexpr uint32_t kBytes = Pixels::kBytes + Weights::kBytes + kSwizzleBytes;  // and room to align
  __device__ static constexpr int count_barriers() { return Pixels::count_barriers() + Weights::count_barriers(); }
  Pixels pixels;
  Weights weights;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <int kOuts>
__device__ BoxTile tile_of(const BoxConvolution& c, int index) {
  const int all = index / c.out_tiles;
  return BoxTile::at(c, kTileY, all / c.parities, index % c.out_tiles * kOuts, all % c.parities);
}

template <int kOuts>
__device__ void copy_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  auto& [pixels, weights] = stages;
  const int in = static_cast<int>(c.product.shape.in);
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    const BoxTile tile = tile_of<kOuts>(c, index);
    if (index + gridDim.x < c.tiles) fetch_residual(c, tile_of<kOuts>(c, index + gridDim.x));
    for (int channel = 0; channel < in; channel += kDepth, ++pixels.used) {
      pixels.free().wait(1 - pixels.phase());
      pixels.full().arrive_expecting(kPixelBytes);
      copy_pixels(pixels.address(), c, tile, pixels.full(), channel);
      for (int tap = 0; tap < c.side * c.side; ++tap, ++weights.used) {
        weights.free().wait(1 - weights.phase());
        weights.full().arrive_expecting(kOuts * kRowBytes);
        copy_weights<kOuts>(weights.address(), c, tile, weights.full(), tap * in + channel);
      }
    }
  }
}

/// What a product sees of a box: 64 pixels from an address on, eight neighbours of a row after those of the row above.
__device__ inline uint64_t describe_pixels(uint32_t address) { return describe(address, kOnePanel, kBoxX * kRowBytes); }

template <int kOuts>
__device__ void multiply_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  const int in = static_cast<int>(c.product.shape.in);
  const int first_row = (static_cast<int>(threadIdx.x) / kGroup - 1) * kGroup;
  const bool speaks = threadIdx.x % kWarp == 0;
  auto& [pixels, weights] = stages;
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    const BoxTile tile = tile_of<kOuts>(c, index);
    float upper[kOuts / 2], lower[kOuts / 2];
    begin_sums(upper, c, tile, first_row);
    begin_sums(lower, c, tile, first_row + kHalf);
    pin(upper);
    pin(lower);
    for (int channel = 0; channel < in; channel += kDepth, ++pixels.used) {
      pixels.full().wait(pixels.phase());
      for (int tap = 0; tap < c.side * c.side; ++tap, ++weights.used) {
        weights.full().wait(weights.phase());
        const int first_pixel = (first_row / kTileX + tap / c.side) * kBoxX + tap % c.side;
        const uint32_t seen = pixels.address() + first_pixel * kRowBytes, w = weights.address();
        const auto multiply = [&]<int kSteps>() {
          begin_products();
#pragma unroll
          for (int k = 0; k < kSteps; ++k) {
            multiply_async(upper, describe_pixels(seen + k * kProductDepth), describe(w + k * kProductDepth));
            multiply_async(lower, describe_pixels(seen + kHalf / kTileX * kBoxX * kRowBytes + k * kProductDepth),
                           describe(w + k * kProductDepth));
          }
        };
        in - channel >= kDepth ? multiply.template operator()<kDepth / 16>()
                               : multiply.template operator()<kDepth / 32>();  // half of a step is left
        commit_products();
        wait_products<1>();
        if (speaks && (channel > 0 || tap > 0)) weights.free(1).arrive();
        if (speaks && channel > 0 && tap == 0) pixels.free(1).arrive();
      }
    }
    wait_products<0>();
    pin(upper);
    pin(lower);
    if (speaks) weights.free(1).arrive();
    if (speaks) pixels.free(1).arrive();
    write_tile(upper, c, tile, first_row);
    write_tile(lower, c, tile, first_row + kHalf);
  }
}

#endif

template <int kOuts>
__global__ void __launch_bounds__(kBoxThreads, 1) convolve_boxes(const __grid_constant__ BoxConvolution c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Stages = BoxStages<kOuts>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[Stages::count_barriers()];
  const uint32_t base = swizzle_aligned(shared_address(memory));
  const Stages stages = {{base, shared_address(barriers)},
                         {base + Stages::Pixels::kBytes, shared_address(barriers + Stages::Pixels::count_barriers())}};
  if (threadIdx.x == 0) {
    constexpr int kReaders = 2 * kGroup / kWarp;
    stages.pixels.init(kReaders);
    stages.weights.init(kReaders);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    leave_registers<BoxRegisters::kCopying>();
    if (threadIdx.x == 0) copy_boxes<kOuts>(c, stages);
  } else {
    take_registers<BoxRegisters::kMultiplying>();
    multiply_boxes<kOuts>(c, stages);
  }
#endif
}

/// An even row or column sees the first weight one before, the other two where it is; an odd one the first two where it
/// is, the last one behind.
__device__ int first_of(int tap, int parity) { return tap == 0 ? 0 : 1 + parity; }
__device__ int last_of(int tap, int parity) { return tap == 0 ? parity : 2; }

__global__ void __launch_bounds__(kThreads)
    sum_taps_of_elements(__nv_bfloat16* out, const __nv_bfloat16* weight, int64_t outs, int64_t in) {
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t to = i, channel = i % in;
  i /= in;
  const int tap = static_cast<int>(i % (kHalfSide * kHalfSide));
  i /= kHalfSide * kHalfSide;
  const int64_t o = i % outs;
  const int parity = static_cast<int>(i / outs);
  if (parity >= kParities) return;
  float sum = 0;
  for (int y = first_of(tap / 2, parity / 2); y <= last_of(tap / 2, parity / 2); ++y)
    for (int x = first_of(tap % 2, parity % 2); x <= last_of(tap % 2, parity % 2); ++x)
      sum += __bfloat162float(weight[(o * kTaps + y * kSide + x) * in + channel]);
  out[to] = __float2bfloat16(sum);
}

template <int kOuts>
void launch(const ConvolutionProduct& product, cudaStream_t stream) {
  BoxConvolution c = describe_boxes<kOuts>(product, kTileY, kDepth);
  c.tiles = c.boxes_x * c.boxes_y * static_cast<int>(product.shape.count) * c.parities * c.out_tiles;
  allow_shared_memory(convolve_boxes<kOuts>, BoxStages<kOuts>::kBytes, "conv2d");
  const auto blocks = static_cast<unsigned>(std::min(c.tiles, multiprocessors("conv2d")));
  convolve_boxes<kOuts><<<blocks, kBoxThreads, BoxStages<kOuts>::kBytes, stream>>>(c);
}

}  // namespace

bool suits_boxes(const ConvolutionProduct& c) {
  const int64_t outs = c.shape.out;
  return sees_boxes(c.shape) && outs >= kDepth && fits(c.bias, sizeof(float4)) && fours(c.residual, outs) &&
         fours(c.out, outs);
}

bool norms_in_boxes(int64_t outs, const float* weight) {
  return (outs == kWide || outs == kNarrow) && fits(weight, sizeof(float4));  // a tile has all channels of a pixel
}

void sum_taps(void* out, const void* weight, int64_t outs, int64_t in, cudaStream_t stream) {
  const int64_t count = kParities * outs * kHalfSide * kHalfSide * in;
  sum_taps_of_elements<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(out),
                                                                   static_cast<const __nv_bfloat16*>(weight), outs, in);
}

void conv2d_boxes(const ConvolutionProduct& product, cudaStream_t stream) {
  if (pixels_of(product.shape) == 0) return;
  product.shape.out % kWide == 0 ? launch<kWide>(product, stream) : launch<kNarrow>(product, stream);
}

}  // namespace inkstone::cuda
