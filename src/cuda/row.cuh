// A row of numbers in the registers of a warp or block.
#pragma once
#include <cuda_fp8.h>

#include "cuda/numbers.cuh"

namespace inkstone::cuda {

constexpr float kMostCode = 448;      // the greatest number of E4M3
constexpr float kLeastMost = 1e-30f;  // of a row: scales stay normal numbers

/// The greatest of the `kGroup` neighbouring threads that share a row; as first_group_sum.
template <int kGroup>
__device__ float group_max(float x, float* shared) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  if constexpr (kGroup > kWarp) {
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
    __syncthreads();
    for (int i = 0; i < kGroup / kWarp; ++i) x = fmaxf(x, shared[i]);
  }
  return x;
}

/// Which group this is, and where a thread is in it. Of whole blocks it is the same for all threads, and must look so:
/// what follows from it then needs no registers of each thread.
template <int kGroup>
__device__ int64_t group_index() {
  if constexpr (kGroup == kThreads) return blockIdx.x;
  return int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
}
template <int kGroup>
__device__ int place_in_group() {
  if constexpr (kGroup == kThreads) return static_cast<int>(threadIdx.x);
  return static_cast<int>(threadIdx.x) % kGroup;
}

/// Four E4M3 codes; NaN stays NaN.
__device__ inline uint32_t codes_of(const float4& v, float factor) {
  const auto low = __nv_cvt_float2_to_fp8x2({v.x * factor, v.y * factor}, __NV_SATFINITE, __NV_E4M3);
  const auto high = __nv_cvt_float2_to_fp8x2({v.z * factor, v.w * factor}, __NV_SATFINITE, __NV_E4M3);
  return uint32_t{low} | uint32_t{high} << 16;
}

/// What a row is multiplied with or shifted by; zeros without data.
struct Vector {
  Numbers numbers;
  int64_t start;

  __device__ float load_at(int64_t j) const { return numbers.data == nullptr ? 0.0f : load(numbers, start + j); }
  __device__ float4 load4_at(int64_t j) const {
    return numbers.data == nullptr ? make_float4(0, 0, 0, 0) : load4(numbers, start + j);
  }
};

/// The same of f32 numbers that are there: fewer registers.
struct PlainVector {
  const float* numbers;

  __device__ float4 load4_at(int64_t j) const { return __ldg(reinterpret_cast<const float4*>(numbers + j)); }
};

/// One row's numbers as a group of threads sees them; each holds up to kHeld float4 of it. kIsF32: they are known to be
/// f32, which leaves registers for more groups.
template <int kGroup, bool kFours, int kHeld = 4, bool kIsF32 = false>
struct Row {
  const Numbers& x;
  int64_t start;
  int d;
  float4 held[kHeld];

  __device__ Row(const Numbers& numbers, int64_t row, int64_t width)
      : x(numbers), start(row * width), d(static_cast<int>(width)) {
    if constexpr (kFours) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) held[i] = column(i) < d ? load4_at(column(i)) : make_float4(0, 0, 0, 0);
    }
  }

  __device__ static int column(int i) { return 4 * (i * kGroup + place_in_group<kGroup>()); }

  __device__ float4 load4_at(int j) const {
    if constexpr (kIsF32) return PlainVector{static_cast<const float*>(x.data) + start}.load4_at(j);
    return load4(x, start + j);
  }

  /// Sum of f(number) over the row. `shared`: of this sum alone, as in round().
  template <class F>
  __device__ float sum(float* shared, const F& f) const {
    float part = 0;
    if constexpr (kFours) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (column(i) < d) part += (f(held[i].x) + f(held[i].y)) + (f(held[i].z) + f(held[i].w));
    } else {
      for (int j = place_in_group<kGroup>(); j < d; j += kGroup) part += f(load(x, start + j));
    }
    return first_group_sum<kGroup>(part, shared);
  }

  /// Each held number becomes f(number, a, b), with the numbers of two vectors at the same column.
  template <class V, class F>
  __device__ void change(const V& a, const V& b, const F& f) {
    static_assert(kFours);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (column(i) >= d) continue;
      const float4 v = held[i];
      const float4 p = a.load4_at(column(i)), q = b.load4_at(column(i));
      held[i] = make_float4(f(v.x, p.x, q.x), f(v.y, p.y, q.y), f(v.z, p.z, q.z), f(v.w, p.w, q.w));
    }
  }

  /// Writes the held numbers in 8 bits, with the scale that makes the greatest of them the greatest code.
  __device__ void round(const Rounded& out, int64_t row, float* shared) const {
    static_assert(kFours);
    float most = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i)  // columns behind the end are zeros
      most = fmaxf(most, fmaxf(fmaxf(fabsf(held[i].x), fabsf(held[i].y)), fmaxf(fabsf(held[i].z), fabsf(held[i].w))));
    const float scale = fmaxf(group_max<kGroup>(most, shared), kLeastMost) / kMostCode;
    if (place_in_group<kGroup>() == 0) out.scales[row] = scale;
    const float inverse = 1.0f / scale;
#pragma unroll
    for (int i = 0; i < kHeld; ++i)
      if (column(i) < d) *reinterpret_cast<uint32_t*>(out.codes + start + column(i)) = codes_of(held[i], inverse);
  }

  /// Writes f(number, a, b) for the whole row, with the numbers of two vectors at the same column.
  template <class V, class F>
  __device__ void write(const Output& out, const V& a, const V& b, const F& f) {
    if constexpr (kFours) {
      change(a, b, f);  // all reads before the first write, which they may not pass
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (column(i) < d) store4(out, start + column(i), held[i]);
    } else {
      for (int j = place_in_group<kGroup>(); j < d; j += kGroup)
        store(out, start + j, f(load(x, start + j), a.load_at(j), b.load_at(j)));
    }
  }
};

}  // namespace inkstone::cuda
