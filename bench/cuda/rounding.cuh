// Device code that the ladders of kernels share: random numbers, and rows rounded to 8 bits.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <vector>

#include "ladder.h"

namespace ladder {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kLaneNumbers = 4;  // consecutive numbers that a lane reads at once
constexpr float kFp8Largest = 448, kInt8Largest = 127;
constexpr int kOutlierPeriod = 384;  // one channel in so many is an outlier

inline double value(float x) { return double{x}; }
inline double value(__nv_bfloat16 x) { return double{__bfloat162float(x)}; }
inline double value(uint8_t e4m3) {
  __nv_fp8_e4m3 code;
  code.__x = e4m3;
  return double{static_cast<float>(code)};
}
inline std::vector<float> floats(const Buffer<__nv_bfloat16>& narrow) {
  std::vector<float> numbers;
  for (const __nv_bfloat16 x : narrow.host()) numbers.push_back(__bfloat162float(x));
  return numbers;
}

inline __device__ uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Standard normal numbers; of every kOutlierPeriod-th channel times `outlier`.
static __global__ void fill_normal(__nv_bfloat16* to, int64_t count, int depth, uint64_t seed, float outlier) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const uint64_t bits = mix(seed + static_cast<uint64_t>(i));
  const float u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  const float angle = static_cast<float>(bits & 0xffffffu) * 0x1p-24f;
  const float factor = i % depth % kOutlierPeriod == kOutlierPeriod / 2 ? outlier : 1.0f;
  to[i] = __float2bfloat16_rn(factor * sqrtf(-2 * logf(u)) * cospif(2 * angle));
}

/// Normal numbers times `factor`, as floats.
inline std::vector<float> drawn(size_t count, uint64_t seed, float factor) {
  const Buffer<__nv_bfloat16> normal(count);
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  fill_normal<<<blocks, kThreads>>>(normal.data(), static_cast<int64_t>(count), kOutlierPeriod, seed << 40, 1);
  must(cudaGetLastError(), "drawing numbers");
  std::vector<float> numbers = floats(normal);
  for (float& v : numbers) v *= factor;
  return numbers;
}
template <class T>
void upload(const Buffer<T>& to, const std::vector<float>& numbers) {
  to.take({numbers.begin(), numbers.end()});
}

inline __device__ uint32_t four_codes(const float (&x)[kLaneNumbers], float inverse, __nv_fp8_storage_t) {
  const auto low = __nv_cvt_float2_to_fp8x2({x[0] * inverse, x[1] * inverse}, __NV_SATFINITE, __NV_E4M3);
  const auto high = __nv_cvt_float2_to_fp8x2({x[2] * inverse, x[3] * inverse}, __NV_SATFINITE, __NV_E4M3);
  return uint32_t{low} | uint32_t{high} << 16;
}

inline __device__ float block_maximum(float x) {
  __shared__ float shared[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  for (const float v : shared) x = fmaxf(x, v);
  return x;
}

inline __device__ float4 load_four(const __nv_bfloat16* x, int64_t i) {
  const uint2 raw = reinterpret_cast<const uint2*>(x)[i];
  const float2 low = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(raw.x));
  const float2 high = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(raw.y));
  return make_float4(low.x, low.y, high.x, high.y);
}

/// An orthonormal Hadamard rotation of a warp's 128 consecutive numbers.
inline __device__ void rotate(float (&x)[kLaneNumbers]) {
  const float a = x[0] + x[1], b = x[0] - x[1], c = x[2] + x[3], d = x[2] - x[3];
  x[0] = a + c, x[1] = b + d, x[2] = a - c, x[3] = b - d;
  for (int offset = 1; offset < kWarp; offset *= 2)
    for (float& v : x) {
      const float other = __shfl_xor_sync(kAllLanes, v, offset);
      v = (threadIdx.x & offset) == 0 ? v + other : other - v;
    }
  for (float& v : x) v *= 0.08838834764831845f;  // 1 / sqrt(128)
}

inline __device__ uint32_t four_codes(const float (&x)[kLaneNumbers], float inverse, int8_t) {
  uint32_t codes = 0;
  for (int i = 0; i < kLaneNumbers; ++i)
    codes |= (static_cast<uint32_t>(__float2int_rn(x[i] * inverse)) & 0xffu) << (8 * i);
  return codes;
}

/// Rounds the row that a block holds: codes = round(row / scale), where the largest code is `largest`.
template <class Code, int kParts>
__device__ void round_held(Code* codes, float* scales, const float (&row)[kParts][kLaneNumbers], float largest) {
  float most = 0;
  for (const auto& part : row)
    for (const float v : part) most = fmaxf(most, fabsf(v));
  const float scale = fmaxf(block_maximum(most), 1e-20f) / largest;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  const int64_t first = int64_t{blockIdx.x} * kParts * kThreads + threadIdx.x;  // counts four numbers
  for (int i = 0; i < kParts; ++i)
    reinterpret_cast<uint32_t*>(codes)[first + i * kThreads] = four_codes(row[i], 1 / scale, Code{});
}

/// A row per block, kParts * 4 * kThreads numbers of it.
template <class Code, int kParts, bool kRotate>
__global__ void round_rows(Code* codes, float* scales, const __nv_bfloat16* x, float largest) {
  float row[kParts][kLaneNumbers];
  const int64_t first = int64_t{blockIdx.x} * kParts * kThreads + threadIdx.x;
  for (int i = 0; i < kParts; ++i) {
    const float4 v = load_four(x, first + i * kThreads);
    row[i][0] = v.x, row[i][1] = v.y, row[i][2] = v.z, row[i][3] = v.w;
    if constexpr (kRotate) rotate(row[i]);
  }
  round_held(codes, scales, row, largest);
}

}  // namespace ladder
