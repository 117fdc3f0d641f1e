// What convolutions by copies of boxes share (conv_boxes.cu, conv_resident.cu): tiles of pictures, boxes of weights,
// the rings that boxes lie in, and what becomes of a tile's sums.
#pragma once
#include <algorithm>

#include "cuda/conv.cuh"
#include "cuda/device_limits.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {

constexpr int kTileX = 8;                           // pixels of a tile's rows
constexpr int kBoxX = kTileX + kSide - 1;           // that its taps see
constexpr int kBoxThreads = 3 * kGroup;             // one copies, two multiply
constexpr int kHalf = 64;                           // pixels of a product
constexpr int kWide = 192, kNarrow = 96, kFew = 8;  // output channels of a tile
constexpr int kParities = 4, kHalfSide = 2;         // of the kernels of a doubled picture
using BoxRegisters = SharedRegisters<24>;

/// A doubled picture is four pictures, of its even and odd rows and columns, each the small one under a kernel of 2x2
/// taps: with 4/9 of the work. `parities` is 4 then, else 1.
struct BoxConvolution {
  ConvolutionProduct product;
  CUtensorMap pixels, weights, residual;
  int side, parities;
  int boxes_x, boxes_y, out_tiles, tiles;
};

/// All of it but what a kernel's tiles of `rows` pixel rows and kOuts channels, and its steps of `depth` channels,
/// decide. Columns of a product are ordered so that a lane has four neighbouring channels of a pixel: column 2 q + e is
/// channel 4 q + e in the first half, 4 q + 2 + e in the second.
template <int kOuts>
BoxConvolution describe_boxes(const ConvolutionProduct& product, int rows, int depth) {
  const Convolution& s = product.shape;
  const bool doubled = s.upsampling > 1;
  BoxConvolution c = {
      .product = product,
      .pixels = tensor_map(
          {.numbers = s.x, .sizes = {s.in, s.width, s.height, s.count}, .box = {depth, kBoxX, rows + kSide - 1, 1}}),
      .weights = {},
      .residual = {},
      .side = doubled ? kHalfSide : kSide,
      .parities = doubled ? kParities : 1,
      .boxes_x = static_cast<int>(blocks_for(s.width, kTileX)),
      .boxes_y = static_cast<int>(blocks_for(s.height, rows)),
      .out_tiles = static_cast<int>(blocks_for(s.out, kOuts)),
      .tiles = 0};
  const int64_t row = c.side * c.side * s.in, outs = c.parities * s.out;
  BoxedTensor weights = {
      .numbers = {product.weight, DType::bf16}, .sizes = {row, outs, 1, 1}, .box = {depth, kOuts, 1, 1}};
  if constexpr (kOuts > kFew) {
    weights.sizes = {row, 2, outs / 4, 2};
    weights.strides = {row, 4 * row, 2 * row};
    weights.box = {depth, 2, kOuts / 4, 2};
  }
  c.weights = tensor_map(weights);
  if (product.residual.data != nullptr)
    c.residual = tensor_map({.numbers = product.residual,
                             .sizes = {s.out, s.out_width, s.out_height, s.count},
                             .box = {kOuts, kTileX, rows, 1}});
  return c;
}

/// Whether what a tile's taps see is a box of the picture, of channels that fill steps.
inline bool sees_boxes(const Convolution& s) {
  constexpr int64_t kLeastIn = 64, kUnit = 32;
  return s.stride == 1 && (s.upsampling == 1 || s.before == 1) && s.in >= kLeastIn && s.in % kUnit == 0;
}

/// Stages of shared memory in the order of their use.
template <int kStages, uint32_t kRoom>
struct Ring {
  static constexpr uint32_t kBytes = kStages * kRoom;
  __device__ static constexpr int count_barriers() { return 2 * kStages; }
  uint32_t base, barriers;
  int used = 0;

  __device__ uint32_t address() const { return base + used % kStages * kRoom; }
  __device__ int phase() const { return used / kStages % 2; }
  __device__ Barrier full() const { return Barrier::at(barriers, used % kStages); }
  __device__ Barrier free(int behind = 0) const { return Barrier::at(barriers, kStages + (used - behind) % kStages); }
  __device__ void init(int readers) const {
    for (int i = 0; i < kStages; ++i) {
      Barrier::at(barriers, i).init(1);
      Barrier::at(barriers, kStages + i).init(readers);
    }
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a tile lies.
struct BoxTile {
  int x, y, picture, out, parity;

  /// Of the box of that index, in tiles of `rows`.
  __device__ static BoxTile at(const BoxConvolution& c, int rows, int box, int out, int parity) {
    return {box % c.boxes_x * kTileX, box / c.boxes_x % c.boxes_y * rows, box / (c.boxes_x * c.boxes_y), out, parity};
  }
  /// Rows and columns before the tile that its first pixel sees.
  __device__ int before_y(const BoxConvolution& c) const {
    return c.parities == 1 ? c.product.shape.before : 1 - parity / 2;
  }
  __device__ int before_x(const BoxConvolution& c) const {
    return c.parities == 1 ? c.product.shape.before : 1 - parity % 2;
  }
};

__device__ inline void copy_pixels(uint32_t to, const BoxConvolution& c, const BoxTile& tile, const Barrier& full,
                                   int channel) {
  copy_box(to, c.pixels, full, channel, tile.x - tile.before_x(c), tile.y - tile.before_y(c), tile.picture);
}

/// Weights of a tile's channels, from a column of (tap, channel) on.
template <int kOuts>
__device__ void copy_weights(uint32_t to, const BoxConvolution& c, const BoxTile& tile, const Barrier& full,
                             int column) {
  const int first = tile.parity * static_cast<int>(c.product.shape.out) + tile.out;
  kOuts > kFew ? copy_box(to, c.weights, full, column, 0, first / 4) : copy_box(to, c.weights, full, column, first);
}

/// Has the cache fetch what the tile adds to; its pixels are those of the small picture if that is doubled.
__device__ inline void fetch_residual(const BoxConvolution& c, const BoxTile& tile) {
  if (c.parities == 1 && c.product.residual.data != nullptr)
    fetch_box(c.residual, tile.out, tile.x, tile.y, tile.picture);
}

/// Where the result has the pixel that a lane has in the first or the second half of 64; negative outside of it.
__device__ inline int64_t pixel_of(const BoxConvolution& c, const BoxTile& tile, int first_row, int half) {
  const Convolution& shape = c.product.shape;
  const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + threadIdx.x % kWarp / 4 + half * 8;
  const int64_t y = tile.y + row / kTileX, x = tile.x + row % kTileX;
  const int64_t out_y = y * shape.upsampling + tile.parity / 2, out_x = x * shape.upsampling + tile.parity % 2;
  const bool inside = y < shape.height && x < shape.width;
  return inside ? (tile.picture * shape.out_height + out_y) * shape.out_width + out_x : -1;
}

/// The first of a lane's channels: fours begin at every sixteenth from there.
__device__ inline int first_channel(const BoxTile& tile) {
  return tile.out + static_cast<int>(threadIdx.x) % kWarp % 4 * 4;
}

/// Four sums of neighbouring channels of a pixel.
struct Four {
  float &x, &y, &z, &w;

  template <int kSums>
  __device__ static Four of(float (&sums)[kSums], int index, int half) {
    const int e = 4 * index + 2 * half;
    return {sums[e], sums[e + 1], sums[kSums / 2 + e], sums[kSums / 2 + e + 1]};
  }
};

__device__ inline float4 read_four(const float* from) { return __ldg(reinterpret_cast<const float4*>(from)); }

__device__ inline void store_four(float* to, float x, float y, float z, float w) {
  *reinterpret_cast<float4*>(to) = make_float4(x, y, z, w);
}
__device__ inline void store_four(__nv_bfloat16* to, float x, float y, float z, float w) {
  *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(x, y), pack_bf16(z, w));
}

/// Sums begin with the residual: all of that is on its way at once, since the registers are free and no load has a
/// condition. Sums outside of the picture begin with anything.
template <int kSums>
__device__ void begin_sums(float (&sums)[kSums], const BoxConvolution& c, const BoxTile& tile, int first_row) {
#pragma unroll
  for (float& sum : sums) sum = 0;
  const auto* residual = static_cast<const float*>(c.product.residual.data);
  if (kSums * 2 == kFew || residual == nullptr) return;
  const int outs = static_cast<int>(c.product.shape.out);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* const from = residual + max(pixel_of(c, tile, first_row, half), int64_t{0}) * outs;
#pragma unroll
    for (int i = 0; i < kSums / 8; ++i) {
      const int channel = first_channel(tile) + 16 * i;
      const float4 read = read_four(from + (channel < outs ? channel : 0));
      const Four four = Four::of(sums, i, half);
      four.x = read.x, four.y = read.y, four.z = read.z, four.w = read.w;
    }
  }
}

/// Few channels lie as products give them, two to a lane.
__device__ inline void write_few(const SlimmestAccumulator& sums, const BoxConvolution& c, const BoxTile& tile,
                                 int first_row) {
  const int outs = static_cast<int>(c.product.shape.out), first = static_cast<int>(threadIdx.x) % kWarp % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t pixel = pixel_of(c, tile, first_row, half);
    for (int i = 0; i < 2 && first + i < outs && pixel >= 0; ++i)
      store(c.product.out, pixel * outs + first + i, sums[2 * half + i] + __ldg(c.product.bias + first + i));
  }
}

template <class T, int kSums>
__device__ void write_sums(T* out, float (&sums)[kSums], const BoxConvolution& c, const BoxTile& tile, int first_row) {
  const int outs = static_cast<int>(c.product.shape.out);
  const int64_t pixels[2] = {pixel_of(c, tile, first_row, 0), pixel_of(c, tile, first_row, 1)};
#pragma unroll
  for (int i = 0; i < kSums / 8; ++i) {
    const int channel = first_channel(tile) + 16 * i;
    const float4 bias = read_four(c.product.bias + (channel < outs ? channel : 0));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Four four = Four::of(sums, i, half);
      if (pixels[half] >= 0 && channel < outs)
        store_four(out + pixels[half] * outs + channel, four.x + bias.x, four.y + bias.y, four.z + bias.z,
                   four.w + bias.w);
    }
  }
}

/// As silu(), for what is rounded to bf16: three instructions more than the product.
__device__ inline float quick_silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

/// The same of a pixel's channels normed, which four lanes have together.
template <int kSums>
__device__ void write_normed(float (&sums)[kSums], const BoxConvolution& c, const BoxTile& tile, int first_row) {
  const ConvolutionNorm& norm = c.product.norm;
  float squares[2] = {};
#pragma unroll
  for (int i = 0; i < kSums / 8; ++i) {
    const float4 bias = read_four(c.product.bias + first_channel(tile) + 16 * i);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Four four = Four::of(sums, i, half);
      four.x += bias.x, four.y += bias.y, four.z += bias.z, four.w += bias.w;
      squares[half] += four.x * four.x + four.y * four.y + four.z * four.z + four.w * four.w;
    }
  }
#pragma unroll
  for (float& sum : squares) {
    sum = 1.0f / sqrtf(quad_sum(sum) / (2 * kSums) + norm.eps);
  }
  auto* const out = static_cast<__nv_bfloat16*>(c.product.out.data);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t pixel = pixel_of(c, tile, first_row, half);
    if (pixel < 0) continue;
    const float inverse = squares[half];
#pragma unroll
    for (int i = 0; i < kSums / 8; ++i) {
      const int channel = first_channel(tile) + 16 * i;
      const float4 weight = read_four(norm.weight + channel);
      const Four four = Four::of(sums, i, half);
      store_four(out + pixel * c.product.shape.out + channel, quick_silu(four.x * inverse * weight.x),
                 quick_silu(four.y * inverse * weight.y), quick_silu(four.z * inverse * weight.z),
                 quick_silu(four.w * inverse * weight.w));
    }
  }
}

/// What is asked for, of 64 pixels.
template <int kSums>
__device__ void write_tile(float (&sums)[kSums], const BoxConvolution& c, const BoxTile& tile, int first_row) {
  if constexpr (kSums * 2 == kFew) {
    write_few(sums, c, tile, first_row);
  } else if (c.product.norm.weight != nullptr) {
    write_normed(sums, c, tile, first_row);
  } else if (c.product.out.type == DType::bf16) {
    write_sums(static_cast<__nv_bfloat16*>(c.product.out.data), sums, c, tile, first_row);
  } else {
    write_sums(static_cast<float*>(c.product.out.data), sums, c, tile, first_row);
  }
}

#endif

}  // namespace inkstone::cuda
