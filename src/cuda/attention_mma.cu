// Flash attention for tensor cores from Ampere on: keys pass by in blocks, with a running maximum and sum (Milakov and
// Gimelshein 2018; Dao et al. 2022). Eight warps take 16 queries each; copies of the next block run under the products.
#include "cuda/device_limits.cuh"
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kKeys = 64;         // of a block
constexpr int kWarpQueries = 16;  // rows of an instruction
constexpr int kChunk = 8;         // numbers of 16 bytes
static_assert(kTileQueries == kThreads / kWarp * kWarpQueries);

/// A block of rows of kWidth numbers in shared memory. Chunks change places so that eight rows of one column never meet
/// in a bank.
template <int kWidth>
struct Block {
  uint32_t base;

  __device__ uint32_t address(int row, int chunk) const {
    const int place = kWidth >= 64 ? chunk ^ (row & 7) : chunk ^ ((row >> 1) & 3);
    return base + static_cast<uint32_t>((row * (kWidth / kChunk) + place) * 16);
  }

  /// Rows from global memory; zeros where there are none, and behind the head's width.
  __device__ void fill(const void* from, int64_t stride, int rows, int present, int width) const {
    for (int i = threadIdx.x; i < rows * (kWidth / kChunk); i += kThreads) {
      const int row = i / (kWidth / kChunk), chunk = i % (kWidth / kChunk);
      const bool inside = row < present && chunk * kChunk < width;
      const auto* source = static_cast<const __nv_bfloat16*>(from) + (inside ? row * stride + chunk * kChunk : 0);
      copy_async(address(row, chunk), source, inside);
    }
  }
};

/// Scores of a warp's queries and a block's keys, then weights, as the accumulators of a lane hold them.
using Scores = float[kKeys / 8][4];

/// Rows g and g + 8 of a warp's queries, as the accumulators of a lane hold them.
template <int kWidth>
struct Rows {
  float out[kWidth / 8][4] = {};
  float greatest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  // of this lane's columns

  /// Turns scores into weights and weakens what was summed before. `factor` goes to the base-2 logarithm.
  __device__ void renew(Scores& scores, float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = greatest[half];
#pragma unroll
      for (auto& s : scores) most = fmaxf(most, fmaxf(s[2 * half], s[2 * half + 1]));
      most = quad_max(most);
      const float weaken = exp2_fast((greatest[half] - most) * factor);
      greatest[half] = most;
      sum[half] *= weaken;
#pragma unroll
      for (auto& o : out) o[2 * half] *= weaken, o[2 * half + 1] *= weaken;
#pragma unroll
      for (auto& s : scores)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s[i] = exp2_fast((s[i] - most) * factor);
          sum[half] += s[i];
        }
    }
  }
};

/// A tile of queries of one head, and the blocks of keys and values that pass by.
template <int kWidth>
struct Pass {
  static constexpr uint32_t kBlockBytes = kKeys * kWidth * 2;

  const FlashAttention& a;
  const Tile tile;
  const int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t q_stride = int64_t{a.heads} * a.width, kv_stride = int64_t{a.kv_heads} * a.width;
  const int key_end = a.causal ? min(tile.key_end, tile.query + tile.queries) : tile.key_end;
  const int blocks = (key_end - tile.key_begin + kKeys - 1) / kKeys;
  const Block<kWidth> q;

  __device__ Pass(const FlashAttention& attention, uint32_t memory)
      : a(attention), tile(attention.tiles[blockIdx.x]), q{memory} {}

  __device__ Block<kWidth> k_block(int i) const { return {q.base + kTileQueries * kWidth * 2 + i % 2 * kBlockBytes}; }
  __device__ Block<kWidth> v_block(int i) const { return {k_block(i).base + 2 * kBlockBytes}; }

  __device__ void fill_queries() const {
    q.fill(static_cast<const __nv_bfloat16*>(a.q) + tile.query * q_stride + head * a.width, q_stride, kTileQueries,
           tile.queries, a.width);
  }

  /// Begins the copies of block i, if there is one.
  __device__ void fill(const Block<kWidth>& block, const void* from, int i) const {
    if (i < blocks) {
      const int first = tile.key_begin + i * kKeys;
      block.fill(static_cast<const __nv_bfloat16*>(from) + first * kv_stride + kv_head * a.width, kv_stride, kKeys,
                 key_end - first, a.width);
    }
    commit_copies();
  }

  __device__ void multiply_keys(Scores& scores, int i) const {
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      uint32_t query[4];
      load_matrices(query, q.address(warp * kWarpQueries + lane % 16, 2 * step + lane / 16));
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        uint32_t key[4];
        load_matrices(key, k_block(i).address(16 * n + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
        multiply_add(scores[2 * n], query, key[0], key[1]);
        multiply_add(scores[2 * n + 1], query, key[2], key[3]);
      }
    }
  }

  /// Keys behind the last one, or behind a query that sees none of the later ones, get no weight.
  __device__ void mask(Scores& scores, int i) const {
    const int first_key = tile.key_begin + i * kKeys;
    if (first_key + kKeys <= (a.causal ? tile.query : key_end)) return;
    const int first_query = tile.query + warp * kWarpQueries + lane / 4;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = first_key + 8 * n + lane % 4 * 2 + e % 2;
        if (key >= key_end || (a.causal && key > first_query + e / 2 * 8)) scores[n][e] = -INFINITY;
      }
  }

  __device__ void add_values(Rows<kWidth>& rows, const Scores& weights, int i) const {
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      const auto& low = weights[2 * step];
      const auto& high = weights[2 * step + 1];
      const uint32_t weight[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                                  pack_bf16(high[2], high[3])};
#pragma unroll
      for (int n = 0; n < kWidth / 16; ++n) {
        uint32_t value[4];
        load_matrices_transposed(value, v_block(i).address(16 * step + lane % 16, 2 * n + lane / 16));
        multiply_add(rows.out[2 * n], weight, value[0], value[1]);
        multiply_add(rows.out[2 * n + 1], weight, value[2], value[3]);
      }
    }
  }

  __device__ void write(const Rows<kWidth>& rows) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float inverse = 1.0f / quad_sum(rows.sum[half]);
      const int row = warp * kWarpQueries + lane / 4 + 8 * half;
      if (row >= tile.queries) continue;
      auto* to = static_cast<__nv_bfloat16*>(a.out[tile.stream]) + (tile.out_row + row) * q_stride + head * a.width;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        const int column = 8 * n + lane % 4 * 2;
        if (column < a.width)
          *reinterpret_cast<uint32_t*>(to + column) =
              pack_bf16(rows.out[n][2 * half] * inverse, rows.out[n][2 * half + 1] * inverse);
      }
    }
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads) attend(const __grid_constant__ FlashAttention a, float factor) {
  extern __shared__ __align__(128) uint8_t memory[];
  const Pass<kWidth> pass(a, shared_address(memory));
  pass.fill_queries();
  pass.fill(pass.k_block(0), a.k, 0);
  pass.fill(pass.v_block(0), a.v, 0);
  Rows<kWidth> rows;
  for (int i = 0; i < pass.blocks; ++i) {
    wait_copies<1>();  // the keys
    __syncthreads();
    pass.fill(pass.k_block(i + 1), a.k, i + 1);
    Scores scores = {};
    pass.multiply_keys(scores, i);
    pass.mask(scores, i);
    rows.renew(scores, factor);

    wait_copies<1>();  // the values
    __syncthreads();
    pass.fill(pass.v_block(i + 1), a.v, i + 1);
    pass.add_values(rows, scores, i);
  }
  pass.write(rows);
}

template <int kWidth>
void launch(const FlashAttention& a, cudaStream_t stream) {
  constexpr int kBytes = (kTileQueries + 4 * kKeys) * kWidth * 2;
  allow_shared_memory(attend<kWidth>, kBytes, "attention");
  const float factor = kLog2E / sqrtf(static_cast<float>(a.width));
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.heads));
  attend<kWidth><<<grid, kThreads, kBytes, stream>>>(a, factor);
}

}  // namespace

void attention_mma(const FlashAttention& a, cudaStream_t stream) {
  if (a.tile_count == 0) return;
  if (a.width <= 32) return launch<32>(a, stream);
  if (a.width <= 64) return launch<64>(a, stream);
  launch<128>(a, stream);
}

}  // namespace inkstone::cuda
