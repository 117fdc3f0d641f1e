// Queries, keys and values in 8 bits for attention_8bit.cu: blocks of 96 rows of a head, queries, keys or values.
//
// Queries and keys are rotated by the same orthogonal matrix, which leaves their products as they are and spreads a
// channel that stands out over all (QuaRot, Ashkboos et al. 2024). A vector taken off all keys of a sequence changes
// all scores of a query alike, so that weights stay (SageAttention, Zhang et al. 2024): the mean of 32 keys, evenly
// spaced and the same for every block of a sequence. So is the scale of its values that 32 of them give.
#include <algorithm>

#include "cuda/row.cuh"
#include "cuda/tensor_core.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kWidth = kCodedHeadWidth;
constexpr int kRowLanes = 4;                                      // that share a row
constexpr int kChunk = 8, kChunks = kWidth / kRowLanes / kChunk;  // of neighbours that a lane holds
constexpr int kHeld = kChunk * kChunks;
constexpr int kCodingThreads = kCodedKeys * kRowLanes, kCodingWarps = kCodingThreads / kWarp;
constexpr int kResidentBlocks = 3;       // of a multiprocessor: most of their time is waiting
constexpr int kSampled = 32;             // keys and values of a sequence that stand for all
constexpr float kSampledCode = 16;       // of the greatest sampled value at most
constexpr float kLeastValue = 0x1p-10f;  // of scales of values
// What a block's values are divided by beyond: its inverse is a one of the block, and E4M3 has no one beyond these. So
// values are cut off beyond some 14,000 times the greatest sampled one.
constexpr float kLeastPower = 0x1p-8f, kMostPower = 0x1p9f;
constexpr float kMostWhole = 127;  // the greatest whole code
static_assert(kCodingThreads >= kWidth && kCodedKeys % kWarp == 0);

/// NaN where either is.
__device__ float greater(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ float block_most(float x, float* shared) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = greater(x, __shfl_xor_sync(kAllLanes, x, offset));
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  for (int i = 0; i < kCodingWarps; ++i) x = greater(x, shared[i]);
  return x;
}

/// A number from -127 to 127 as a whole one in the lowest byte.
__device__ uint32_t whole_code(float x, float factor) {
  constexpr float kWholeSteps = 0x1.8p23f;  // beside it numbers lie one apart
  return __float_as_uint(fmaf(x, factor, kWholeSteps));
}
__device__ uint32_t four_whole_codes(const float* x, float factor) {
  constexpr uint32_t kLowBytes = 0x0040, kLowHalves = 0x5410;
  return __byte_perm(__byte_perm(whole_code(x[0], factor), whole_code(x[1], factor), kLowBytes),
                     __byte_perm(whole_code(x[2], factor), whole_code(x[3], factor), kLowBytes), kLowHalves);
}

/// What a lane holds of a row: numbers 32 j + 8 (lane % 4) + i.
struct HeadRow {
  float x[kHeld];

  __device__ explicit HeadRow(const __nv_bfloat16* row) {
#pragma unroll
    for (int j = 0; j < kChunks; ++j) {
      const uint4 raw = reinterpret_cast<const uint4*>(row)[chunk(j)];
      const uint32_t pairs[kChunk / 2] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
      for (int i = 0; i < kChunk / 2; ++i) {
        const float2 pair = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(pairs[i]));
        x[kChunk * j + 2 * i] = pair.x, x[kChunk * j + 2 * i + 1] = pair.y;
      }
    }
  }
  __device__ static int chunk(int j) { return kRowLanes * j + static_cast<int>(threadIdx.x) % kRowLanes; }

  __device__ void take_off(const float* mean) {
#pragma unroll
    for (int j = 0; j < kChunks; ++j)
#pragma unroll
      for (int i = 0; i < kChunk; ++i) x[kChunk * j + i] -= mean[kChunk * chunk(j) + i];
  }
  /// A Hadamard rotation of the row.
  __device__ void rotate() {
    constexpr float kUnit = 0.08838834764831845f;  // 1 / sqrt(128)
    add_and_subtract(x);
#pragma unroll
    for (int lane = 1; lane < kRowLanes; lane *= 2)
#pragma unroll
      for (float& v : x) {
        const float other = __shfl_xor_sync(kAllLanes, v, lane);
        v = (threadIdx.x & lane) == 0 ? v + other : other - v;
      }
#pragma unroll
    for (float& v : x) v *= kUnit;
  }
  __device__ float most() const {
    float most = 0;
#pragma unroll
    for (const float v : x) most = greater(most, fabsf(v));
    return most;
  }
  __device__ void write(int8_t* codes, float factor) const {
#pragma unroll
    for (int j = 0; j < kChunks; ++j)
      reinterpret_cast<uint2*>(codes)[chunk(j)] =
          make_uint2(four_whole_codes(x + kChunk * j, factor), four_whole_codes(x + kChunk * j + 4, factor));
  }
};

struct Coding {
  CodedQkv to;
  FlashAttention from;
  float factor;  // of scores as powers of two

  __device__ const __nv_bfloat16* q(int64_t row, int head) const { return head_of(from.q, row, from.heads, head); }
  __device__ const __nv_bfloat16* k(int64_t row, int head) const { return head_of(from.k, row, from.kv_heads, head); }
  __device__ const __nv_bfloat16* v(int64_t row, int head) const { return head_of(from.v, row, from.kv_heads, head); }
  __device__ static const __nv_bfloat16* head_of(const void* numbers, int64_t row, int heads, int head) {
    return static_cast<const __nv_bfloat16*>(numbers) + (row * heads + head) * kWidth;
  }
  /// Of a head's blocks, that of these threads.
  __device__ int64_t block(int head) const { return int64_t{head} * to.block_count + blockIdx.x; }
};

__device__ int64_t sampled_row(const KeyBlock& block, int i) {
  return block.begin + int64_t{i} * (block.end - block.begin) / kSampled;
}

__device__ void code_queries(const Coding& c, int head) {
  const int64_t row = int64_t{blockIdx.x} * kCodedKeys + threadIdx.x / kRowLanes;
  HeadRow held(c.q(min(row, c.from.rows - 1), head));
  held.rotate();
  float most = held.most();
#pragma unroll
  for (int lane = 1; lane < kRowLanes; lane *= 2) most = greater(most, __shfl_xor_sync(kAllLanes, most, lane));
  most = greater(most, kLeastMost);
  if (row >= c.from.rows) return;
  held.write(c.to.q + (row * c.from.heads + head) * kWidth, kMostWhole / most);
  if (threadIdx.x % kRowLanes == 0) c.to.q_scales[head * c.from.rows + row] = most / kMostWhole * c.factor;
}

__device__ void code_keys(const Coding& c, int head, float* shared) {
  const KeyBlock block = c.to.blocks[blockIdx.x];
  float* const mean = shared + kCodingWarps;
  const int row = static_cast<int>(threadIdx.x) / kRowLanes;
  HeadRow held(c.k(min(block.first + row, block.end - 1), head));
  if (threadIdx.x < kWidth) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kSampled; ++i) sum += __bfloat162float(c.k(sampled_row(block, i), head)[threadIdx.x]);
    mean[threadIdx.x] = sum / kSampled;
  }
  __syncthreads();
  held.take_off(mean);
  held.rotate();
  const float most = greater(block_most(held.most(), shared), kLeastMost);
  if (threadIdx.x == 0) c.to.scales[c.block(head)].key = most / kMostWhole;
  held.write(c.to.k + (c.block(head) * kCodedKeys + row) * kWidth, kMostWhole / most);
}

/// Of a block's keys, the one whose value lies in a slot: a lane's neighbouring weights lie beside each other.
__device__ int key_in(int slot) {
  constexpr int kStep = 16, kLaneSlots = 4, kPair = 2, kGroupKeys = 8;
  return slot / kStep * kStep + slot % kLaneSlots / kPair * kGroupKeys + slot % kStep / kLaneSlots * kPair +
         slot % kPair;
}

/// The power of two at or above x.
__device__ float power_above(float x) { return exp2f(ceilf(log2f(x))); }

/// Of values whose sampled ones are at most so great.
__device__ float value_scale(float sampled) {
  return sampled == 0 ? 1 : greater(power_above(sampled / kSampledCode), kLeastValue);
}
/// What a block's values, at most so great, are divided by beyond that: a power of two, or not a number if one is none
/// or infinite. Its weights are multiplied with it, which costs others their bits, so that small values get half of
/// what they lack.
__device__ float block_power(float most, float value) {
  if (!(most < INFINITY)) return NAN;
  const float reach = most / value;
  if (reach > kMostCode) return fminf(power_above(reach / kMostCode), kMostPower);
  if (reach < kSampledCode) return fmaxf(power_above(sqrtf(reach / kSampledCode)), kLeastPower);
  return 1;
}

__device__ float four_most(const float4& v) {
  return greater(greater(fabsf(v.x), fabsf(v.y)), greater(fabsf(v.z), fabsf(v.w)));
}

/// A block's values, four keys by four channels at a time.
struct TurnedValues {
  static constexpr int kFours = kCodedKeys / 4, kRounds = kFours / kCodingWarps;
  static constexpr int kRowWords = kCodedSlots / 4;
  static_assert(kFours % kCodingWarps == 0 && kRowWords == kWarp);
  float4 x[kRounds][4];

  __device__ static int four(int round) { return static_cast<int>(threadIdx.x) / kWarp + round * kCodingWarps; }

  __device__ TurnedValues(const Coding& c, const KeyBlock& block, int head) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < kRounds; ++i)
#pragma unroll
      for (int z = 0; z < 4; ++z) {
        const int key = block.first + key_in(4 * four(i) + z);
        x[i][z] = key < block.end ? load4({c.v(key, head), DType::bf16}, 4 * lane) : make_float4(0, 0, 0, 0);
      }
  }
  __device__ float most() const {
    float most = 0;
#pragma unroll
    for (const auto& round : x)
#pragma unroll
      for (const float4& v : round) most = greater(most, four_most(v));
    return most;
  }
  /// As rows of channels; the words of a row are in an order that lets neither writing nor reading wait.
  __device__ void turn(uint32_t* rows, float factor) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const float4* v = x[i];
      uint32_t* to = rows + 4 * lane * kRowWords + (four(i) ^ lane);
      to[0] = codes_of(make_float4(v[0].x, v[1].x, v[2].x, v[3].x), factor);
      to[kRowWords] = codes_of(make_float4(v[0].y, v[1].y, v[2].y, v[3].y), factor);
      to[2 * kRowWords] = codes_of(make_float4(v[0].z, v[1].z, v[2].z, v[3].z), factor);
      to[3 * kRowWords] = codes_of(make_float4(v[0].w, v[1].w, v[2].w, v[3].w), factor);
    }
  }
  __device__ static uint32_t word_of(const uint32_t* rows, int channel) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    return lane < kFours ? rows[channel * kRowWords + (lane ^ channel / 4)] : 0;
  }
};

/// Four slots of a row of ones.
__device__ uint32_t ones(const KeyBlock& block, int four, float one) {
  const auto at = [&](int z) {
    return four < TurnedValues::kFours && block.first + key_in(4 * four + z) < block.end ? one : 0.0f;
  };
  return codes_of(make_float4(at(0), at(1), at(2), at(3)), 1);
}

__device__ void code_values(const Coding& c, int head, float* shared, uint32_t* rows) {
  const KeyBlock block = c.to.blocks[blockIdx.x];
  const TurnedValues values(c, block, head);
  float sampled = 0;
  if (threadIdx.x < kWidth) {
#pragma unroll
    for (int i = 0; i < kSampled; ++i)
      sampled = greater(sampled, fabsf(__bfloat162float(c.v(sampled_row(block, i), head)[threadIdx.x])));
  }
  sampled = block_most(sampled, shared);
  const float most = block_most(values.most(), shared + kCodingWarps);
  const float value = value_scale(sampled), power = block_power(most, value);
  values.turn(rows, 1 / (value * power));
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  auto* const to =
      reinterpret_cast<uint32_t*>(c.to.v) + c.block(head) * kCodedValueRows * TurnedValues::kRowWords + lane;
  for (int row = warp; row < kCodedValueRows; row += kCodingWarps)
    to[row * TurnedValues::kRowWords] = row < kWidth ? TurnedValues::word_of(rows, row) : ones(block, lane, 1 / power);
  if (threadIdx.x != 0) return;
  c.to.scales[c.block(head)].power = log2f(power);
  c.to.scales[c.block(head)].value = value;
}

enum Plane { kQueries, kKeys, kValues, kPlanes };  // of a grid

__global__ void __launch_bounds__(kCodingThreads, kResidentBlocks) code_heads(const __grid_constant__ Coding c) {
  __shared__ float shared[kCodingWarps + kWidth];
  __shared__ uint32_t rows[kWidth * TurnedValues::kRowWords];
  const int head = static_cast<int>(blockIdx.y);
  if (blockIdx.z == kQueries) {
    if (int64_t{blockIdx.x} * kCodedKeys < c.from.rows) code_queries(c, head);
  } else if (head < c.from.kv_heads && blockIdx.x < c.to.block_count) {
    if (blockIdx.z == kKeys) {
      code_keys(c, head, shared);
    } else {
      code_values(c, head, shared, rows);
    }
  }
}

}  // namespace

void code_qkv(const CodedQkv& to, const FlashAttention& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  const int64_t blocks = std::max<int64_t>(to.block_count, (a.rows + kCodedKeys - 1) / kCodedKeys);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(a.heads), kPlanes);
  code_heads<<<grid, kCodingThreads, 0, stream>>>({to, a, kLog2E / sqrtf(static_cast<float>(kWidth))});
}

}  // namespace inkstone::cuda
