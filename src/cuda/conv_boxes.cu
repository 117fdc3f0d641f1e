// 3x3 convolutions with Hopper's copies of boxes: what all taps see of a tile of 8x32 pixels is a box of the picture,
// with zeros outside. A product takes eight pixels of a row after the other, from wherever its tap begins in the box.
// One thread copies boxes and weights, two warpgroups multiply, each 128 pixels with all output channels of the tile.
// Blocks stay and take tile after tile, so that the next tile's copies run while results are
// written.
#include "cuda/conv.cuh"
#include "cuda/cuda_error.h"
#include "cuda/shared_memory.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kTileX = 8, kTileY = 32;                 // pixels of a tile
constexpr int kBoxX = kTileX + 2, kBoxY = kTileY + 2;  // that its taps see
constexpr int kGroup = 128;                            // threads of a warpgroup
constexpr int kBoxThreads = 3 * kGroup;
constexpr int kDepth = 64;  // channels of a step
constexpr int kRowBytes = kDepth * 2;
constexpr uint32_t kPixelBytes = kBoxX * kBoxY * kRowBytes;
constexpr uint32_t kPixelRoom = (kPixelBytes + 1023) / 1024 * 1024;
constexpr int kWide = 192, kNarrow = 96, kFew = 8;  // output channels of a tile

/// A doubled picture is four pictures, of its even and odd rows and columns, each the small one under a kernel of 2x2
/// taps: with 4/9 of the work. `parities` is 4 then, else 1.
struct BoxConvolution {
  ConvolutionProduct product;
  CUtensorMap pixels, weights, residual;
  int side, parities;
  int boxes_x, boxes_y, out_tiles, tiles;
};

/// Stages of shared memory in the order of their use.
template <int kStages, uint32_t kRoom>
struct Ring {
  static constexpr uint32_t kBytes = kStages * kRoom;
  __device__ static constexpr int count_barriers() { return 2 * kStages; }
  uint32_t base, barriers;
  int used = 0;

  __device__ uint32_t address() const { return base + used % kStages * kRoom; }
  __device__ int phase() const { return used / kStages % 2; }
  __device__ Barrier full() const { return {barriers + used % kStages * 8}; }
  __device__ Barrier free(int behind = 0) const { return {barriers + (kStages + (used - behind) % kStages) * 8}; }
  __device__ void init(int readers) const {
    for (int i = 0; i < kStages; ++i) {
      Barrier{barriers + i * 8}.init(1);
      Barrier{barriers + (kStages + i) * 8}.init(readers);
    }
  }
};

/// Pixels for a step of channels, weights for a tap of it.
template <int kOuts>
struct BoxStages {
  using Pixels = Ring<2, kPixelRoom>;
  using Weights = Ring<5, kOuts * kRowBytes>;
  static constexpr uint32_t kBytes = Pixels::kBytes + Weights::kBytes + 1024;  // and room to align
  __device__ static constexpr int count_barriers() { return Pixels::count_barriers() + Weights::count_barriers(); }
  Pixels pixels;
  Weights weights;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a tile lies.
struct BoxTile {
  int x, y, picture, out, parity;

  template <int kOuts>
  __device__ static BoxTile at(const BoxConvolution& c, int index) {
    const int all = index / c.out_tiles, box = all / c.parities;
    return {box % c.boxes_x * kTileX, box / c.boxes_x % c.boxes_y * kTileY, box / (c.boxes_x * c.boxes_y),
            index % c.out_tiles * kOuts, all % c.parities};
  }
  /// Rows and columns before the tile that its first pixel sees.
  __device__ int before_y(const BoxConvolution& c) const {
    return c.parities == 1 ? c.product.shape.before : 1 - parity / 2;
  }
  __device__ int before_x(const BoxConvolution& c) const {
    return c.parities == 1 ? c.product.shape.before : 1 - parity % 2;
  }
};

template <int kOuts>
__device__ void copy_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  const Convolution& shape = c.product.shape;
  auto& [pixels, weights] = stages;
  const int in = static_cast<int>(shape.in), outs = static_cast<int>(shape.out);
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    const BoxTile tile = BoxTile::at<kOuts>(c, index);
    if (c.parities == 1 && c.product.residual.data != nullptr && index + gridDim.x < c.tiles) {
      const BoxTile next = BoxTile::at<kOuts>(c, index + gridDim.x);
      fetch_box(c.residual, next.out, next.x, next.y, next.picture);
    }
    const int x = tile.x - tile.before_x(c), y = tile.y - tile.before_y(c), first_out = tile.parity * outs + tile.out;
    for (int channel = 0; channel < in; channel += kDepth, ++pixels.used) {
      pixels.free().wait(1 - pixels.phase());
      pixels.full().arrive_expecting(kPixelBytes);
      copy_box(pixels.address(), c.pixels, pixels.full(), channel, x, y, tile.picture);
      for (int tap = 0; tap < c.side * c.side; ++tap, ++weights.used) {
        weights.free().wait(1 - weights.phase());
        weights.full().arrive_expecting(kOuts * kRowBytes);
        copy_box(weights.address(), c.weights, weights.full(), tap * in + channel, first_out);
      }
    }
  }
}

/// Calls `use(place, channel, e)` for the pairs of channels, e and e + 1 of its registers, that a lane has of 64
/// pixels.
template <int kOuts>
__device__ void for_each_pair(const BoxConvolution& c, const BoxTile& tile, int first_row, const auto& use) {
  const Convolution& shape = c.product.shape;
  const int lane = threadIdx.x % kWarp, out = tile.out + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4 + half * 8;
    const int64_t y = tile.y + row / kTileX, x = tile.x + row % kTileX;
    const bool inside = y < shape.height && x < shape.width;
    const int64_t out_y = y * shape.upsampling + tile.parity / 2, out_x = x * shape.upsampling + tile.parity % 2;
    const int64_t place = ((tile.picture * shape.out_height + out_y) * shape.out_width + out_x) * shape.out + out;
#pragma unroll
    for (int j = 0; j < kOuts / 8; ++j)
      if (inside && out + 8 * j < shape.out) use(place + 8 * j, out + 8 * j, 4 * j + 2 * half);
  }
}

/// Sums begin with the residual: all of that can be on its way at once, since the registers are free.
template <int kOuts>
__device__ void begin_sums(float (&sums)[kOuts / 2], const BoxConvolution& c, const BoxTile& tile, int first_row) {
#pragma unroll
  for (float& sum : sums) sum = 0;
  const auto* residual = static_cast<const float*>(c.product.residual.data);
  if (residual != nullptr)
    for_each_pair<kOuts>(c, tile, first_row, [&](int64_t place, int, int e) {
      const float2 pair = __ldg(reinterpret_cast<const float2*>(residual + place));
      sums[e] = pair.x;
      sums[e + 1] = pair.y;
    });
}

template <int kOuts>
__device__ void write_sums(const float (&sums)[kOuts / 2], const BoxConvolution& c, const BoxTile& tile,
                           int first_row) {
  const Output& to = c.product.out;
  const float* const biases = c.product.bias;
  for_each_pair<kOuts>(c, tile, first_row, [&](int64_t place, int channel, int e) {
    if constexpr (kOuts == kFew) {
      for (int i = 0; i < 2 && channel + i < c.product.shape.out; ++i)
        store(to, place + i, sums[e + i] + __ldg(biases + channel + i));
      return;
    }
    const float2 bias = __ldg(reinterpret_cast<const float2*>(biases + channel));
    const float2 sum = make_float2(sums[e] + bias.x, sums[e + 1] + bias.y);
    if (to.type == DType::bf16) {
      *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(to.data) + place) = pack_bf16(sum.x, sum.y);
    } else {
      *reinterpret_cast<float2*>(static_cast<float*>(to.data) + place) = sum;
    }
  });
}

/// As silu(), for what is rounded to bf16: three instructions more than the product.
__device__ float quick_silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

/// The same of a pixel's channels normed, which four lanes have together.
template <int kOuts>
__device__ void write_normed(float (&sums)[kOuts / 2], const BoxConvolution& c, const BoxTile& tile, int first_row) {
  const ConvolutionNorm& norm = c.product.norm;
  const int out = static_cast<int>(threadIdx.x) % 4 * 2;
  float squares[2] = {};
#pragma unroll
  for (int j = 0; j < kOuts / 8; ++j) {
    const float2 bias = __ldg(reinterpret_cast<const float2*>(c.product.bias + out + 8 * j));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float &a = sums[4 * j + 2 * half], &b = sums[4 * j + 2 * half + 1];
      a += bias.x;
      b += bias.y;
      squares[half] += a * a + b * b;
    }
  }
#pragma unroll
  for (float& sum : squares) {
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    sum = 1.0f / sqrtf(sum / kOuts + norm.eps);
  }
  for_each_pair<kOuts>(c, tile, first_row, [&](int64_t place, int channel, int e) {
    const float2 weight = __ldg(reinterpret_cast<const float2*>(norm.weight + channel));
    const float inverse = squares[e / 2 % 2];
    *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(c.product.out.data) + place) =
        pack_bf16(quick_silu(sums[e] * inverse * weight.x), quick_silu(sums[e + 1] * inverse * weight.y));
  });
}

/// What a product sees of a box: 64 pixels from an address on, eight neighbours of a row after those of the row above.
__device__ inline uint64_t describe_pixels(uint32_t address) { return describe(address, 16, kBoxX * kRowBytes); }

template <int kOuts>
__device__ void multiply_boxes(const BoxConvolution& c, BoxStages<kOuts> stages) {
  constexpr int kHalf = 64;  // pixels of a product
  const int in = static_cast<int>(c.product.shape.in);
  const int first_row = (static_cast<int>(threadIdx.x) / kGroup - 1) * kGroup;
  const bool speaks = threadIdx.x % kWarp == 0;
  auto& [pixels, weights] = stages;
  for (int index = blockIdx.x; index < c.tiles; index += gridDim.x) {
    const BoxTile tile = BoxTile::at<kOuts>(c, index);
    float upper[kOuts / 2], lower[kOuts / 2];
    begin_sums<kOuts>(upper, c, tile, first_row);
    begin_sums<kOuts>(lower, c, tile, first_row + kHalf);
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
            multiply_async(upper, describe_pixels(seen + k * 32), describe(w + k * 32, 16));
            multiply_async(lower, describe_pixels(seen + kHalf / kTileX * kBoxX * kRowBytes + k * 32),
                           describe(w + k * 32, 16));
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
    if (kOuts > kFew && c.product.norm.weight != nullptr) {
      write_normed<kOuts>(upper, c, tile, first_row);
      write_normed<kOuts>(lower, c, tile, first_row + kHalf);
    } else {
      write_sums<kOuts>(upper, c, tile, first_row);
      write_sums<kOuts>(lower, c, tile, first_row + kHalf);
    }
  }
}

#endif

template <int kOuts>
__global__ void __launch_bounds__(kBoxThreads, 1) convolve_boxes(const __grid_constant__ BoxConvolution c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Stages = BoxStages<kOuts>;
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[Stages::count_barriers()];
  const uint32_t base = (shared_address(memory) + 1023) / 1024 * 1024;
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
    leave_registers<24>();
    if (threadIdx.x == 0) copy_boxes<kOuts>(c, stages);
  } else {
    take_registers<240>();
    multiply_boxes<kOuts>(c, stages);
  }
#endif
}

constexpr int kParities = 4, kHalfSide = 2;  // of the kernels of a doubled picture

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
void launch(BoxConvolution c, cudaStream_t stream) {
  const Convolution& shape = c.product.shape;
  if (c.product.residual.data != nullptr)
    c.residual = tensor_map(
        {c.product.residual, {shape.out, shape.out_width, shape.out_height, shape.count}, {kOuts, kTileX, kTileY, 1}});
  c.weights = tensor_map({{c.product.weight, DType::bf16},
                          {c.side * c.side * shape.in, c.parities * shape.out, 1, 1},
                          {kDepth, kOuts, 1, 1}});
  c.out_tiles = static_cast<int>(blocks_for(shape.out, kOuts));
  c.tiles = c.boxes_x * c.boxes_y * static_cast<int>(shape.count) * c.parities * c.out_tiles;
  allow_shared_memory(convolve_boxes<kOuts>, BoxStages<kOuts>::kBytes, "conv2d");
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "conv2d");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "conv2d");
  convolve_boxes<kOuts>
      <<<static_cast<unsigned>(std::min(c.tiles, processors)), kBoxThreads, BoxStages<kOuts>::kBytes, stream>>>(c);
}

bool fits_pairs(const void* data) { return reinterpret_cast<uintptr_t>(data) % sizeof(float2) == 0; }

}  // namespace

bool suits_boxes(const ConvolutionProduct& c) {
  const Convolution& s = c.shape;
  const bool centred = s.upsampling == 1 || s.before == 1;
  if (s.stride != 1 || !centred || s.in < kDepth || s.in % (kDepth / 2) != 0) return false;
  if (s.out <= kFew) return s.upsampling == 1 && c.residual.data == nullptr;
  return s.out >= kDepth && s.out % 4 == 0 && fits_pairs(c.bias) && fours(c.residual, s.out) &&
         fits_pairs(c.out.data);  // copies of boxes want fours
}

bool norms_in_boxes(int64_t outs) { return outs == kWide || outs == kNarrow; }  // a tile has all channels of a pixel

void sum_taps(void* out, const void* weight, int64_t outs, int64_t in, cudaStream_t stream) {
  const int64_t count = kParities * outs * kHalfSide * kHalfSide * in;
  sum_taps_of_elements<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(out),
                                                                   static_cast<const __nv_bfloat16*>(weight), outs, in);
}

void conv2d_boxes(const ConvolutionProduct& product, cudaStream_t stream) {
  const Convolution& shape = product.shape;
  if (pixels_of(shape) == 0) return;
  BoxConvolution c = {};
  c.product = product;
  c.pixels = tensor_map({shape.x, {shape.in, shape.width, shape.height, shape.count}, {kDepth, kBoxX, kBoxY, 1}});
  c.side = shape.upsampling == 1 ? kSide : kHalfSide;
  c.parities = shape.upsampling * shape.upsampling;
  c.boxes_x = static_cast<int>(blocks_for(shape.width, kTileX));
  c.boxes_y = static_cast<int>(blocks_for(shape.height, kTileY));
  if (shape.out <= kFew) return launch<kFew>(c, stream);
  shape.out % kWide == 0 ? launch<kWide>(c, stream) : launch<kNarrow>(c, stream);
}

}  // namespace inkstone::cuda
