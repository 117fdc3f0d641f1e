// Flash attention with Hopper's instructions, for heads of 128. One warpgroup copies keys and values, two multiply,
// each 64 queries. A warpgroup's next scores and its last weights times values run while it computes weights; the ideas
// are FlashAttention-3's (Shah et al. 2024).
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kWidth = 128;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kAttendThreads = 3 * kGroup;
constexpr int kStages = 3;
constexpr uint32_t kPanel = 128 * 128;  // bytes of 64 columns of a block; blocks of queries and keys have 128 rows
constexpr uint32_t kBlockBytes = 2 * kPanel;
constexpr int kSharedBytes = (1 + 2 * kStages) * kBlockBytes + 1024;  // and room to align

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kKeys = 128;  // of a block

/// A block of 128 rows as `describe` wants it.
struct Block {
  uint32_t base;

  /// By one warpgroup: rows from global memory, zeros behind the last. Attention waits for these copies, so whole
  /// blocks take few instructions.
  __device__ void fill(const __nv_bfloat16* from, int64_t stride, int present) const {
    constexpr int kChunks = kWidth / 8, kRows = kGroup / kChunks;
    static_assert(kRows == 8, "rows of a thread are alike in the places of their chunks");
    const int chunk = threadIdx.x % kChunks, first = threadIdx.x % kGroup / kChunks;
    const __nv_bfloat16* source = from + first * stride + chunk * 8;
    uint32_t to = base + chunk / 8 * kPanel + first * 128 + (chunk % 8 ^ first) * 16;
    const int64_t step = kRows * stride;
    if (present >= kKeys) {
#pragma unroll
      for (int i = 0; i < kKeys / kRows; ++i, source += step) copy_async(to + i * kRows * 128, source, true);
    } else {
#pragma unroll 4
      for (int i = 0; i < kKeys / kRows; ++i, source += step) {
        const bool inside = first + i * kRows < present;
        copy_async(to + i * kRows * 128, inside ? source : from, inside);
      }
    }
  }
  /// For a product over 16 columns from `step` * 16 on.
  __device__ uint64_t columns(int step, int first_row) const {
    return describe(base + step / 4 * kPanel + first_row * 128 + step % 4 * 32, 16);
  }
  /// For a product over 16 rows from `step` * 16 on.
  __device__ uint64_t rows(int step) const { return describe(base + step * 16 * 128, kPanel); }
};

/// Everything in shared memory.
struct Stage {
  uint32_t base, barriers;

  __device__ Block q() const { return {base}; }
  __device__ Block k(int i) const { return {base + (1 + i % kStages) * kBlockBytes}; }
  __device__ Block v(int i) const { return {base + (1 + kStages + i % kStages) * kBlockBytes}; }
  __device__ Barrier barrier(int kind, int i) const { return {barriers + (kind * kStages + i % kStages) * 8}; }
  __device__ Barrier full_k(int i) const { return barrier(0, i); }
  __device__ Barrier full_v(int i) const { return barrier(1, i); }
  __device__ Barrier free_k(int i) const { return barrier(2, i); }
  __device__ Barrier free_v(int i) const { return barrier(3, i); }
  __device__ Barrier full_q() const { return barrier(4, 0); }
};
constexpr int kBarriers = 5 * kStages;

/// How often a stage was used before block i.
__device__ int phase(int i) { return i / kStages % 2; }

/// The blocks of keys that a tile reads.
struct Span {
  int begin, end, blocks;

  __device__ Span(const FlashAttention& a, const Tile& t)
      : begin(t.key_begin),
        end(a.causal ? min(t.key_end, t.query + t.queries) : t.key_end),
        blocks((end - begin + kKeys - 1) / kKeys) {}
};

__device__ void copy_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head) {
  const Span span(a, tile);
  const int64_t q_stride = int64_t{a.heads} * kWidth, stride = int64_t{a.kv_heads} * kWidth;
  const int64_t column = int64_t{head / (a.heads / a.kv_heads)} * kWidth;
  stage.q().fill(static_cast<const __nv_bfloat16*>(a.q) + tile.query * q_stride + head * kWidth, q_stride,
                 tile.queries);
  stage.full_q().arrive_after_copies();
  for (int i = 0; i < span.blocks; ++i) {
    const int first = span.begin + i * kKeys;
    const auto copy = [&](const void* from, const Block& to, const Barrier& free, const Barrier& full) {
      free.wait(1 - phase(i));
      to.fill(static_cast<const __nv_bfloat16*>(from) + first * stride + column, stride, span.end - first);
      full.arrive_after_copies();
    };
    copy(a.k, stage.k(i), stage.free_k(i), stage.full_k(i));
    copy(a.v, stage.v(i), stage.free_v(i), stage.full_v(i));
  }
  wait_copies<0>();
}

/// Scores become weights; what was summed before must be weakened by `weaken`. A lane has rows g and g + 8.
struct Running {
  float greatest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
  float weaken[2] = {};

  __device__ void renew(Accumulator& scores, float factor) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = greatest[half];
#pragma unroll
      for (int j = 0; j < 64; j += 4) most = fmaxf(most, fmaxf(scores[j + 2 * half], scores[j + 2 * half + 1]));
      most = quad_max(most);
      weaken[half] = exp2_fast((greatest[half] - most) * factor);
      greatest[half] = most;
      const float shift = most * factor;
      float part = 0;
#pragma unroll
      for (int j = 0; j < 64; j += 4)
#pragma unroll
        for (int e = j + 2 * half; e < j + 2 * half + 2; ++e) {
          scores[e] = exp2_fast(fmaf(scores[e], factor, -shift));
          part += scores[e];
        }
      sum[half] = sum[half] * weaken[half] + part;
    }
  }
};

__device__ void pack(uint32_t (&weights)[32], const Accumulator& scores) {
#pragma unroll
  for (int i = 0; i < 32; ++i) weights[i] = pack_bf16(scores[2 * i], scores[2 * i + 1]);
}

__device__ void begin_scores(Accumulator& scores, const Stage& stage, int i, int first_row) {
  stage.full_k(i).wait(phase(i));
  publish_to_products();
  pin(scores);
  begin_products();
#pragma unroll
  for (int step = 0; step < kWidth / 16; ++step)
    multiply_async(scores, stage.q().columns(step, first_row), stage.k(i).columns(step, 0), step > 0);
  commit_products();
}

__device__ void begin_sum(Accumulator& out, const uint32_t (&weights)[32], const Stage& stage, int i) {
  stage.full_v(i).wait(phase(i));
  publish_to_products();
  pin(out);
  begin_products();
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) multiply_async(out, weights + 4 * step, stage.v(i).rows(step));
  commit_products();
}

/// Lets the two warpgroups begin their products in turns, so that one computes weights while the other multiplies
/// (FlashAttention-3).
struct Turns {
  int group;  // 1 or 2, as its named barrier
  int left;   // turns of each group

  __device__ Turns(int index, int turns) : group(index), left(turns) {
    if (group == 2) pass();
  }
  __device__ void wait() const { asm volatile("bar.sync %0, %1;" ::"r"(group), "n"(2 * kGroup) : "memory"); }
  __device__ void pass() const { asm volatile("bar.arrive %0, %1;" ::"r"(3 - group), "n"(2 * kGroup) : "memory"); }
  /// Nobody waits for the end of the last.
  __device__ void end() {
    if (--left > 0 || group == 1) pass();
  }
};

/// The rows of a lane, its weighted sums divided by the sum of weights.
__device__ void write_rows(const FlashAttention& a, const Tile& tile, int head, int row, const Accumulator& out,
                           const Running& running) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float inverse = 1.0f / quad_sum(running.sum[half]);
    const int query = row + 8 * half;
    if (query >= tile.queries) continue;
    auto* to = static_cast<__nv_bfloat16*>(a.out[tile.stream]) +
               (int64_t{tile.out_row + query} * a.heads + head) * kWidth + threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 16; ++j)
      *reinterpret_cast<uint32_t*>(to + 8 * j) =
          pack_bf16(out[4 * j + 2 * half] * inverse, out[4 * j + 2 * half + 1] * inverse);
  }
}

__device__ void multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head, float factor) {
  const Span span(a, tile);
  const int first_row = (threadIdx.x / kGroup - 1) * 64;
  const int lane = threadIdx.x % kWarp;
  const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4;
  Accumulator scores, out = {};
  uint32_t weights[32];
  Running running;
  const auto finish_scores = [&](int i) {
    pin(scores);
    if (lane == 0) stage.free_k(i).arrive();
    const int first_key = span.begin + i * kKeys;
    if (first_key + kKeys > (a.causal ? tile.query : span.end)) {
#pragma unroll
      for (int e = 0; e < 64; ++e) {
        const int key = first_key + e / 4 * 8 + lane % 4 * 2 + e % 2;
        if (key >= span.end || (a.causal && key > tile.query + row + e % 4 / 2 * 8)) scores[e] = -INFINITY;
      }
    }
    running.renew(scores, factor);
  };

  stage.full_q().wait(0);
  Turns turns(threadIdx.x / kGroup, span.blocks);
  turns.wait();
  begin_scores(scores, stage, 0, first_row);
  turns.end();
  wait_products<0>();
  finish_scores(0);
  pack(weights, scores);
  for (int i = 1; i < span.blocks; ++i) {
    turns.wait();
    begin_scores(scores, stage, i, first_row);
    begin_sum(out, weights, stage, i - 1);
    turns.end();
    wait_products<1>();
    finish_scores(i);
    wait_products<0>();
    pin(out);
    if (lane == 0) stage.free_v(i - 1).arrive();
#pragma unroll
    for (int e = 0; e < 64; ++e) out[e] *= running.weaken[e % 4 / 2];
    pack(weights, scores);
  }
  begin_sum(out, weights, stage, span.blocks - 1);
  wait_products<0>();
  pin(out);
  write_rows(a, tile, head, row, out, running);
}

#endif

__global__ void __launch_bounds__(kAttendThreads, 1)
    attend_hopper(const __grid_constant__ FlashAttention a, float factor) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[kBarriers];
  const Stage stage = {(shared_address(memory) + 1023) / 1024 * 1024, shared_address(barriers)};
  const Tile tile = a.tiles[blockIdx.x];
  if (threadIdx.x == 0) {
    constexpr int kReaders = 2 * kGroup / kWarp;
    for (int i = 0; i < kStages; ++i) {
      stage.full_k(i).init(kGroup);
      stage.full_v(i).init(kGroup);
      stage.free_k(i).init(kReaders);
      stage.free_v(i).init(kReaders);
    }
    stage.full_q().init(kGroup);
  }
  __syncthreads();
  if (threadIdx.x < kGroup) {
    leave_registers<40>();
    copy_blocks(a, tile, stage, blockIdx.y);
  } else {
    take_registers<232>();
    multiply_blocks(a, tile, stage, blockIdx.y, factor);
  }
#endif
}

}  // namespace

void attention_wgmma(const FlashAttention& a, cudaStream_t stream) {
  if (a.tile_count == 0) return;
  cudaFuncSetAttribute(attend_hopper, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  constexpr float kLog2E = 1.4426950408889634f;
  const float factor = kLog2E / sqrtf(static_cast<float>(kWidth));
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.heads));
  attend_hopper<<<grid, kAttendThreads, kSharedBytes, stream>>>(a, factor);
}

bool has_wgmma() {
  constexpr int kHopper = 90;  // of the virtual architecture that the kernel was compiled for
  cudaFuncAttributes attributes = {};
  return cudaFuncGetAttributes(&attributes, attend_hopper) == cudaSuccess && attributes.ptxVersion == kHopper;
}

}  // namespace inkstone::cuda
