// Reading and writing numbers of any float type inside kernels, and sums over the threads of a row.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/launch.h"

namespace inkstone::cuda {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The type is the same for a whole launch, so these branches never diverge.

__device__ inline float load(const Numbers& x, int64_t i) {
  switch (x.type) {
    case DType::bf16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(x.data)[i]);
    case DType::f16:
      return __half2float(static_cast<const __half*>(x.data)[i]);
    default:
      return static_cast<const float*>(x.data)[i];
  }
}

__device__ inline void store(const Output& out, int64_t i, float value) {
  if (out.type == DType::bf16) {
    static_cast<__nv_bfloat16*>(out.data)[i] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(out.data)[i] = value;
  }
}

/// Four neighbours as a float4; `i` divides by 4 and the data is aligned to four of its numbers.
__device__ inline float4 load4(const Numbers& x, int64_t i) {
  if (x.type == DType::f32) return reinterpret_cast<const float4*>(static_cast<const float*>(x.data) + i)[0];
  const uint2 raw = reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(x.data) + i)[0];
  if (x.type == DType::bf16) {
    const float2 a = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(raw.x));
    const float2 b = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(raw.y));
    return make_float4(a.x, a.y, b.x, b.y);
  }
  const float2 a = __half22float2(reinterpret_cast<const __half2&>(raw.x));
  const float2 b = __half22float2(reinterpret_cast<const __half2&>(raw.y));
  return make_float4(a.x, a.y, b.x, b.y);
}

__device__ inline void store4(const Output& out, int64_t i, const float4& value) {
  if (out.type == DType::f32) {
    reinterpret_cast<float4*>(static_cast<float*>(out.data) + i)[0] = value;
    return;
  }
  __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(value.x, value.y), __floats2bfloat162_rn(value.z, value.w)};
  reinterpret_cast<uint2*>(static_cast<uint16_t*>(out.data) + i)[0] = reinterpret_cast<uint2&>(pair);
}

/// Whether units of so many bytes can be read and written from an address on.
__host__ __device__ inline bool fits(const void* data, size_t unit) {
  return reinterpret_cast<uintptr_t>(data) % unit == 0;
}

/// Whether rows of `d` numbers can be read and written four at a time.
inline bool fours(const void* data, DType type, int64_t d) {
  return d % 4 == 0 && fits(data, type == DType::f32 ? sizeof(float4) : sizeof(uint2));
}
inline bool fours(const Numbers& x, int64_t d) { return x.data == nullptr || fours(x.data, x.type, d); }
inline bool fours(const Output& x, int64_t d) { return fours(x.data, x.type, d); }

/// A Hadamard matrix of ones times what a lane holds, whose count is a power of two.
template <int kHeld>
__device__ void add_and_subtract(float (&held)[kHeld]) {
#pragma unroll
  for (int apart = 1; apart < kHeld; apart *= 2)
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      if ((j & apart) != 0) continue;
      const float a = held[j], b = held[j + apart];
      held[j] = a + b;
      held[j + apart] = a - b;
    }
}

__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

constexpr float kSqrt2OverPi = 0.7978845608028654f, kGeluCubic = 0.044715f;  // of GELU's tanh form

__device__ inline float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(kSqrt2OverPi * (x + kGeluCubic * x * x * x)));
}

/// The same as x * sigmoid(2u), by instructions that are far more exact than a result of few bits.
__device__ inline float gelu_by_exp(float x) {
  return __fdividef(x, 1.0f + __expf(-2.0f * kSqrt2OverPi * (x + kGeluCubic * x * x * x)));
}

__device__ inline float activate(float x, Activation activation) {
  if (activation == Activation::silu) return silu(x);
  if (activation == Activation::gelu_tanh) return gelu_tanh(x);
  return x;
}

__device__ inline float4 activate(const float4& x, Activation a) {
  return make_float4(activate(x.x, a), activate(x.y, a), activate(x.z, a), activate(x.w, a));
}

/// The sequence that owns a row.
__device__ inline int32_t sequence_of(const SequenceStarts& sequences, int64_t row) {
  int32_t s = 0;
  while (s + 1 < sequences.count && row >= sequences.begin[s + 1]) ++s;  // of one sequence nothing is read
  return s;
}

/// Where the vector of a row begins in its table.
__device__ inline int64_t vector_start(const RowVectors& v, int64_t row, int64_t d) {
  return (v.row[sequence_of(v.sequences, row)] + v.slot) * d;
}

/// Where a row goes in a join.
__device__ inline int64_t joined_row(const JoinPart& part, int64_t row) {
  return row + part.shift[sequence_of(part.sequences, row)];
}

/// The sum over the `kGroup` neighbouring threads that share a row: those of a warp or of a part of it, or the whole
/// block through `shared`, which no thread may still read.
template <int kGroup>
__device__ float first_group_sum(float x, float* shared) {
  for (int offset = (kGroup < kWarp ? kGroup : kWarp) / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(kAllLanes, x, offset);
  if constexpr (kGroup > kWarp) {
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < kGroup / kWarp; ++i) x += shared[i];
  }
  return x;
}

/// The same where threads may still read what an earlier sum left in `shared`.
template <int kGroup>
__device__ float group_sum(float x, float* shared) {
  if constexpr (kGroup > kWarp) __syncthreads();
  return first_group_sum<kGroup>(x, shared);
}

inline unsigned blocks_for(int64_t items, int64_t per_block = kThreads) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace inkstone::cuda
