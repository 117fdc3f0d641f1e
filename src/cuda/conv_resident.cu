// 3x3 convolutions whose weights fit into a multiprocessor's shared memory and stay there: those of 96 or few outputs,
// at a decoder's full resolution. A block holds the weights of one kernel, pixels come in slices: 32 channels of the
// box that all taps see of a tile of 8x16 pixels. Two warpgroups take turns, a tile each: while one multiplies, the
// other writes what it has and reads the residual of its next tile.
#include "cuda/conv_boxes.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kTileY = 16;  // pixel rows of a tile
constexpr int kDepth = 32;  // channels of a slice
constexpr int kRowBytes = kDepth * 2;
constexpr uint32_t kSliceBytes = kBoxX * (kTileY + kSide - 1) * kRowBytes;
constexpr uint32_t kSliceRoom = swizzle_aligned<kShortSwizzleBytes>(kSliceBytes);
constexpr uint32_t kWeightRoom = kTaps * kNarrow * kNarrow * 2;
using Slices = Ring<5, kSliceRoom>;
constexpr uint32_t kSharedBytes = kWeightRoom + Slices::kBytes + kSwizzleBytes;  // and room to align

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kConsumers = 2;  // warpgroups

template <int kOuts>
constexpr uint32_t kPieceBytes = kOuts* kRowBytes;  // weights of a slice under one tap

/// The tiles of a block: all of one parity, whose weights it holds.
struct BlockTiles {
  int parity, first, step;

  __device__ explicit BlockTiles(const BoxConvolution& c)
      : parity(static_cast<int>(blockIdx.x) % c.parities),
        first(static_cast<int>(blockIdx.x) / c.parities),
        step(static_cast<int>(gridDim.x) / c.parities) {}
  __device__ BoxTile at(const BoxConvolution& c, int index) const { return BoxTile::at(c, kTileY, index, 0, parity); }
};

/// The first tile's slices bring the weights that they are multiplied with.
template <int kOuts, int kTapCount>
__device__ void copy_slices(const BoxConvolution& c, uint32_t weights, Slices slices) {
  const int in = static_cast<int>(c.product.shape.in);
  const BlockTiles tiles(c);
  for (int index = tiles.first; index < c.tiles; index += tiles.step) {
    const BoxTile tile = tiles.at(c, index);
    const bool first = index == tiles.first;
    if (index + tiles.step < c.tiles) fetch_residual(c, tiles.at(c, index + tiles.step));
    for (int channel = 0; channel < in; channel += kDepth, ++slices.used) {
      slices.free().wait(1 - slices.phase());
      slices.full().arrive_expecting(kSliceBytes + (first ? kTapCount * kPieceBytes<kOuts> : 0));
      copy_pixels(slices.address(), c, tile, slices.full(), channel);
      for (int tap = 0; first && tap < kTapCount; ++tap, weights += kPieceBytes<kOuts>)
        copy_weights<kOuts>(weights, c, tile, slices.full(), tap * in + channel);
    }
  }
}

/// Adds what a slice gives to the sums of a tile's halves.
template <int kOuts, int kTapSide>
__device__ void multiply_slice(float (&upper)[kOuts / 2], float (&lower)[kOuts / 2], uint32_t pixels,
                               uint32_t weights) {
  constexpr int kLower = kHalf / kTileX * kBoxX * kRowBytes;
  // Addresses in descriptions count sixteens, and shared memory is small enough that they never carry.
  const uint64_t seen = describe_short(pixels, kBoxX * kRowBytes), weight = describe_short(weights);
  begin_products();
#pragma unroll
  for (int tap = 0; tap < kTapSide * kTapSide; ++tap) {
    const int first_pixel = tap / kTapSide * kBoxX + tap % kTapSide;
#pragma unroll
    for (int k = 0; k < kRowBytes; k += 32) {
      const uint64_t x = seen + (first_pixel * kRowBytes + k) / 16, w = weight + (tap * kPieceBytes<kOuts> + k) / 16;
      multiply_async(upper, x, w);
      multiply_async(lower, x + kLower / 16, w);
    }
  }
  commit_products();
}

/// `turns`: a barrier for each warpgroup, at which the other one says that it has nothing left to multiply. It has
/// waited for its slices then, so that weights are there, and no barrier of a slice is two phases behind.
template <int kOuts, int kTapSide>
__device__ void multiply_slices(const BoxConvolution& c, uint32_t weights, Slices slices, uint32_t turns) {
  constexpr uint32_t kSliceWeights = kTapSide * kTapSide * kPieceBytes<kOuts>;
  const int count = static_cast<int>(c.product.shape.in) / kDepth;
  const int group = static_cast<int>(threadIdx.x) / kGroup - 1;
  const bool speaks = threadIdx.x % kWarp == 0;
  const Barrier mine = {turns + group * Barrier::kBytes}, other = {turns + (1 - group) * Barrier::kBytes};
  const BlockTiles tiles(c);
  slices.used = group * count;
  int turn = 1 - group;  // the first warpgroup waits for nobody at first
  for (int index = tiles.first + group * tiles.step; index < c.tiles; index += kConsumers * tiles.step) {
    const BoxTile tile = tiles.at(c, index);
    float upper[kOuts / 2], lower[kOuts / 2];
    begin_sums(upper, c, tile, 0);
    begin_sums(lower, c, tile, kHalf);
    pin(upper);
    pin(lower);
    mine.wait(turn);
    int slice = 0;
#pragma unroll 1
    do {  // at least once: a way around it would have products wait for one another
      slices.full().wait(slices.phase());
      multiply_slice<kOuts, kTapSide>(upper, lower, slices.address(), weights + slice * kSliceWeights);
      wait_products<1>();
      if (speaks && slice > 0) slices.free(1).arrive();
      ++slices.used;
    } while (++slice < count);
    if (speaks) other.arrive();
    wait_products<0>();
    pin(upper);
    pin(lower);
    if (speaks) slices.free(1).arrive();
    write_tile(upper, c, tile, 0);
    write_tile(lower, c, tile, kHalf);
    slices.used += count;  // the other one's
    turn = 1 - turn;
  }
}

#endif

template <int kOuts, int kTapSide>
__global__ void __launch_bounds__(kBoxThreads, 1) convolve_resident(const __grid_constant__ BoxConvolution c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[Slices::count_barriers() + kConsumers];
  const uint32_t weights = swizzle_aligned(shared_address(memory));
  const uint32_t turns = shared_address(barriers + Slices::count_barriers());
  const Slices slices = {weights + kWeightRoom, shared_address(barriers)};
  if (threadIdx.x == 0) {
    constexpr int kReaders = kGroup / kWarp;
    slices.init(kReaders);
    for (int i = 0; i < kConsumers; ++i) Barrier::at(turns, i).init(kReaders);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    leave_registers<BoxRegisters::kCopying>();
    if (threadIdx.x == 0) copy_slices<kOuts, kTapSide * kTapSide>(c, weights, slices);
  } else {
    take_registers<BoxRegisters::kMultiplying>();
    multiply_slices<kOuts, kTapSide>(c, weights, slices, turns);
  }
#endif
}

template <int kOuts, int kTapSide>
void launch(const ConvolutionProduct& product, cudaStream_t stream) {
  BoxConvolution c = describe_boxes<kOuts>(product, kTileY, kDepth);
  c.tiles = c.boxes_x * c.boxes_y * static_cast<int>(product.shape.count);
  const auto kernel = convolve_resident<kOuts, kTapSide>;
  allow_shared_memory(kernel, kSharedBytes, "conv2d");
  const int blocks = std::min(c.tiles, multiprocessors("conv2d") / c.parities) * c.parities;
  kernel<<<static_cast<unsigned>(blocks), kBoxThreads, kSharedBytes, stream>>>(c);
}

}  // namespace

bool suits_resident(const ConvolutionProduct& c) {
  const Convolution& s = c.shape;
  const bool few = s.out <= kFew && sees_boxes(s) && s.upsampling == 1 && c.residual.data == nullptr;
  if (!few && (s.out > kNarrow || !suits_boxes(c))) return false;
  const int64_t taps = s.upsampling > 1 ? kHalfSide * kHalfSide : kTaps;
  return taps * s.in * (few ? kFew : kNarrow) * 2 <= int64_t{kWeightRoom};
}

void conv2d_resident(const ConvolutionProduct& product, cudaStream_t stream) {
  const Convolution& shape = product.shape;
  if (pixels_of(shape) == 0) return;
  if (shape.out <= kFew) return launch<kFew, kSide>(product, stream);
  shape.upsampling > 1 ? launch<kNarrow, kHalfSide>(product, stream) : launch<kNarrow, kSide>(product, stream);
}

}  // namespace inkstone::cuda
