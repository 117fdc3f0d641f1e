// Numbers mixed in groups and rounded to 8 bits (ops/mixed_order.h, ops/mixed_codes.cpp): a warp for each group.
#include "cuda/numbers.cuh"
#include "ops/mixed_order.h"

namespace inkstone::cuda {
namespace {

constexpr int kMostMixed = 16;             // numbers of a block that are mixed with each other
constexpr int kGroups = kThreads / kWarp;  // of a block of threads

/// The inputs of group `group` that a row of `d` has.
__device__ int inputs_of(int64_t group, int64_t d) {
  return static_cast<int>(min(kMixedGroup, d - group * kMixedGroup));
}

/// A group's codes in shared memory.
union Codes {
  int8_t bytes[kMixedGroup];
  int words[kMixedGroup / kMixedStep];
  uint4 pieces[kMixedGroup / sizeof(uint4)];
};

/// A lane's numbers of a group. Of a block of kOf * kMixedSpacing numbers the first half of a warp has the first half,
/// so that all distances but the greatest lie between numbers of one lane.
struct Group {
  static constexpr int kHalf = kWarp / 2;
  static_assert(kHalf == kMixedSpacing);

  const int count;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float of_16[8] = {}, of_8[4] = {}, of_4[2] = {}, rest[2] = {};

  /// f(number, its place in the group) for all numbers of this lane.
  template <class F>
  __device__ void each(const F& f) {
    int begin = each_of_block<kMostMixed>(of_16, 0, f);
    begin = each_of_block<kMostMixed / 2>(of_8, begin, f);
    begin = each_of_block<kMostMixed / 4>(of_4, begin, f);
#pragma unroll
    for (int k = 0; k < 2; ++k)
      if (const int i = begin + k * kWarp + lane; i < count) f(rest[k], i);
  }

  __device__ void mix() { mix_block(of_16), mix_block(of_8), mix_block(of_4); }

  /// Codes into shared memory; their scale, NaN if a number is, and their sum.
  __device__ MixedScale round(Codes& codes) {
    uint32_t most = 0;  // as bits, of which NaN's are greater than any number's
    each([&](float& v, int) { most = max(most, __float_as_uint(fabsf(v))); });
    const float greatest = __uint_as_float(__reduce_max_sync(kAllLanes, most));
    const float inverse = kMixedGreatest / (greatest < kMixedLeastDivisor ? kMixedLeastDivisor : greatest);
    each([&](float& v, int i) { codes.bytes[i] = static_cast<int8_t>(__float2int_rn(v * inverse)); });
    __syncwarp();
    constexpr int kOnes = 0x01010101;
    int sum = 0;
    for (int i = lane; i * kMixedStep < count; i += kWarp) sum = __dp4a(codes.words[i], kOnes, sum);
    return {greatest / kMixedGreatest, __reduce_add_sync(kAllLanes, sum)};
  }

 private:
  /// The place behind the block, if there is room for one at `begin`.
  template <int kOf, class F>
  __device__ int each_of_block(float (&held)[kOf / 2], int begin, const F& f) const {
    if (count - begin < kOf * kMixedSpacing) return begin;
    const int first = begin + lane / kHalf * (kOf / 2 * kHalf) + lane % kHalf;
#pragma unroll
    for (int j = 0; j < kOf / 2; ++j) f(held[j], first + j * kHalf);
    return begin + kOf * kMixedSpacing;
  }

  template <int kHeld>
  __device__ void mix_block(float (&held)[kHeld]) const {
    add_and_subtract(held);
    const float share = 1 / sqrtf(2 * kHeld), sign = lane < kHalf ? 1.0f : -1.0f;
#pragma unroll
    for (float& v : held) {
      const float other = __shfl_xor_sync(kAllLanes, v, kHalf);
      v = fmaf(v, sign, other) * share;
    }
  }
};

__device__ float number(float x) { return x; }
__device__ float number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ float number(__half x) { return __half2float(x); }

template <class T>
__global__ void __launch_bounds__(kThreads)
    round_row_group(MixedRows out, const T* x, const float* factors, int64_t rows, int64_t d) {
  __shared__ Codes all_codes[kGroups];
  Codes& codes = all_codes[threadIdx.x / kWarp];
  const int64_t row = int64_t{blockIdx.x} * kGroups + threadIdx.x / kWarp, g = blockIdx.y;
  if (row >= rows) return;
  Group group{inputs_of(g, d)};
  const int64_t start = row * d + g * kMixedGroup;
  const T* from = x + start;
  const float* of_input = factors + g * kMixedGroup;
  group.each([&](float& v, int i) { v = number(from[i]) * of_input[i]; });
  group.mix();
  const MixedScale scale = group.round(codes);
  for (int i = group.lane; i * static_cast<int>(sizeof(uint4)) < group.count; i += kWarp)
    reinterpret_cast<uint4*>(out.codes + start)[i] = codes.pieces[i];
  if (group.lane == 0) out.scales[g * rows + row] = scale;
}

/// Weights of kGroups outputs side by side, so that what they write shares lines of the cache.
template <class T>
__global__ void __launch_bounds__(kThreads)
    round_weight_group(MixedWeights out, const T* w, const float* factors, MixedOrder order) {
  __shared__ Codes all_codes[kGroups];
  Codes& codes = all_codes[threadIdx.x / kWarp];
  const int64_t output = int64_t{blockIdx.x} * kGroups + threadIdx.x / kWarp, input = int64_t{blockIdx.y} * kMixedGroup;
  if (output >= order.out) return;
  Group group{inputs_of(blockIdx.y, order.in)};
  const T* from = w + output * order.in + input;
  group.each([&](float& v, int i) { v = number(from[i]) / factors[input + i]; });
  group.mix();
  const MixedScale scale = group.round(codes);
  constexpr auto kOffsets = static_cast<int>(0x01010101u * kMixedOffset);  // adding 128 turns a byte's highest bit
  const int64_t step = order.columns(MixedOrder::strip_of(output)) * kMixedStep;
  for (int i = group.lane; i * kMixedStep < group.count; i += kWarp)
    *reinterpret_cast<int*>(out.codes + order.code(output, input) + i * step) = codes.words[i] ^ kOffsets;
  if (group.lane == 0) out.scales[order.scale(output, input)] = scale.scale;
}

dim3 grid_of_groups(int64_t rows, int64_t d) {
  return {blocks_for(rows, kGroups), static_cast<unsigned>(MixedOrder::groups_in(d))};
}

/// work(numbers as what they are).
template <class Work>
void with_type(const Numbers& x, const Work& work) {
  switch (x.type) {
    case DType::bf16:
      return work(static_cast<const __nv_bfloat16*>(x.data));
    case DType::f16:
      return work(static_cast<const __half*>(x.data));
    default:
      return work(static_cast<const float*>(x.data));
  }
}

/// One over the sum of a row's squares; 0 for a row of zeros.
__global__ void __launch_bounds__(kThreads) invert_squares(float* inverse, Numbers w, int64_t in) {
  __shared__ float shared[kThreads / kWarp];
  float sum = 0;
  for (int64_t i = threadIdx.x; i < in; i += kThreads) {
    const float v = load(w, blockIdx.x * in + i);
    sum += v * v;
  }
  sum = group_sum<kThreads>(sum, shared);
  if (threadIdx.x == 0) inverse[blockIdx.x] = sum > 0 ? 1 / sum : 0;
}

constexpr int kShareRows = kThreads / kWarp;  // rows that a block of threads reads at once, a warp each

/// Sums over rows of what each of kWarp inputs has of a row's squares.
__global__ void __launch_bounds__(kThreads)
    add_input_shares(float* shares, Numbers w, const float* inverse, int64_t out, int64_t in) {
  __shared__ double sums[kShareRows][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, first = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t i = int64_t{blockIdx.x} * kWarp + lane;
  double sum = 0;
  if (i < in)
    for (int64_t o = first; o < out; o += kShareRows) {
      const float v = load(w, o * in + i);
      sum += v * v * inverse[o];
    }
  sums[first][lane] = sum;
  __syncthreads();
  if (first != 0 || i >= in) return;
  for (int row = 1; row < kShareRows; ++row) sum += sums[row][lane];
  shares[i] += static_cast<float>(sum);
}

constexpr int kFactorThreads = 1024;
constexpr float kMostHalvings = 10;  // weights that are zero would ask for any number

/// The middle of `n` numbers that are not negative, by halving what their bits may be.
__device__ float middle_of(const float* numbers, int n) {
  uint32_t low = 0, high = 0x7f800000u;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    int below = 0;
    for (int i = static_cast<int>(threadIdx.x); i - static_cast<int>(threadIdx.x) < n; i += kFactorThreads)
      below += __syncthreads_count(i < n && __float_as_uint(numbers[i]) <= middle);
    if (below > n / 2) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return __uint_as_float(low);
}

__global__ void __launch_bounds__(kFactorThreads) even_inputs(float* factors, const float* shares, int n) {
  const float middle = middle_of(shares, n);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kFactorThreads) {
    const float halvings = rintf(log2f(middle / shares[i]) / 2);
    factors[i] = isnan(halvings) ? 1 : exp2f(-fminf(fmaxf(halvings, -kMostHalvings), kMostHalvings));
  }
}

}  // namespace

void round_mixed_rows(const MixedRows& out, const Numbers& x, const float* factors, int64_t rows, int64_t d,
                      cudaStream_t stream) {
  if (rows == 0) return;
  with_type(x, [&](auto* numbers) {
    round_row_group<<<grid_of_groups(rows, d), kThreads, 0, stream>>>(out, numbers, factors, rows, d);
  });
}

void round_mixed_weights(const MixedWeights& out, const Numbers& w, const float* factors, int64_t outs, int64_t in,
                         cudaStream_t stream) {
  with_type(w, [&](auto* numbers) {
    round_weight_group<<<grid_of_groups(outs, in), kThreads, 0, stream>>>(out, numbers, factors, MixedOrder{outs, in});
  });
}

void add_shares(float* shares, float* room, const Numbers& w, int64_t outs, int64_t in, cudaStream_t stream) {
  invert_squares<<<static_cast<unsigned>(outs), kThreads, 0, stream>>>(room, w, in);
  add_input_shares<<<blocks_for(in, kWarp), kThreads, 0, stream>>>(shares, w, room, outs, in);
}

void mixed_factors(float* factors, const float* shares, int64_t in, cudaStream_t stream) {
  even_inputs<<<1, kFactorThreads, 0, stream>>>(factors, shares, static_cast<int>(in));
}

}  // namespace inkstone::cuda
