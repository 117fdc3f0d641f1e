// Flash attention with Hopper's instructions, for heads of 128. One thread copies keys and values, two warpgroups
// multiply, each 64 queries that it holds in registers. A warpgroup's next scores and its last weights times values run
// while it computes weights; the ideas are FlashAttention-3's (Shah et al. 2024).
#include "cuda/flash.cuh"

namespace inkstone::cuda {

constexpr int kWidth = kMaxFlashWidth;

struct NarrowWay {
  static constexpr int kKeys = 128;  // of a block; there are as many queries
  static constexpr int kCopyRegisters = 40, kRegisters = 232;
  using Block = HeadRows<kWidth / kPanelWidth, kKeys>;
  using Stage = FlashStage<Block, Block, 3>;

  __device__ static void multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head,
                                         float factor);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace {

constexpr int kKeys = NarrowWay::kKeys;
using Block = NarrowWay::Block;
using Stage = NarrowWay::Stage;

/// Scores become weights.
struct Weights : Running {
  /// Whether what was summed before must be weakened.
  __device__ bool renew(Accumulator& scores, float factor) {
    bool grows = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (raise(scores, half, factor)) grows = true;
      const float shift = greatest[half] * factor;
      float part[2] = {};
#pragma unroll
      for (int j = 2 * half; j < 64; j += 4)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          scores[j + e] = exp2_fast(fmaf(scores[j + e], factor, -shift));
          part[e] += scores[j + e];
        }
      sum[half] = sum[half] * weaken[half] + (part[0] + part[1]);
    }
    return __any_sync(kAllLanes, grows);
  }
};

__device__ void pack(uint32_t (&weights)[32], const Accumulator& scores) {
#pragma unroll
  for (int i = 0; i < 32; ++i) weights[i] = pack_bf16(scores[2 * i], scores[2 * i + 1]);
}

/// A warpgroup's queries as the left operand of products.
struct Queries {
  uint32_t held[32];

  __device__ Queries(const Block& block, int first_row) {
    const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + threadIdx.x % 16;
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      const int chunk = step % 4 * 2 + threadIdx.x % kWarp / 16;
      uint32_t part[4];
      load_matrices(part, block.base + step / 4 * Block::kPanel + row * kPanelRow + (chunk ^ row % 8) * 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) held[4 * step + i] = part[i];
    }
  }
};

__device__ void begin_scores(Accumulator& scores, const Queries& queries, const Stage& stage, int i) {
  stage.full_k(i).wait(Stage::phase(i));
  pin(scores);
  begin_products();
#pragma unroll
  for (int step = 0; step < kWidth / 16; ++step)
    multiply_async(scores, queries.held + 4 * step, stage.k(i).columns(step), step > 0);
  commit_products();
}

__device__ void begin_sum(Accumulator& out, const uint32_t (&weights)[32], const Stage& stage, int i) {
  stage.full_v(i).wait(Stage::phase(i));
  pin(out);
  begin_products();
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) multiply_async(out, weights + 4 * step, stage.v(i).rows(step));
  commit_products();
}

}  // namespace

__device__ void NarrowWay::multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head,
                                           float factor) {
  const KeySpan span(a, tile, kKeys);
  const int first_row = (threadIdx.x / kGroup - 1) * 64;
  const int lane = threadIdx.x % kWarp;
  const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4;
  Accumulator scores, out = {};
  uint32_t weights[32];
  Weights running;
  bool grows = false;
  const auto finish_scores = [&](int i) {
    pin(scores);
    hide_keys(scores, a, tile, span, span.begin + i * kKeys, row);
    grows = running.renew(scores, factor);
    __syncwarp();
    // The keys are let go late, and only by who knows the sums of weights, which are never negative: else the assembler
    // waits for the products that still run ahead of the exponentials, which are to hide them.
    if (lane == 0 && !(running.sum[0] + running.sum[1] < 0)) stage.free_k(i).arrive();
  };

  stage.full_q().wait(0);
  const Queries queries(stage.q(), first_row);
  Turns<kReaders / kGroup> turns(threadIdx.x / kGroup, span.blocks);
  turns.wait();
  begin_scores(scores, queries, stage, 0);
  turns.end();
  wait_products<0>();
  finish_scores(0);
  pack(weights, scores);
  for (int i = 1; i < span.blocks; ++i) {
    turns.wait();
    begin_scores(scores, queries, stage, i);
    begin_sum(out, weights, stage, i - 1);
    turns.end();
    wait_products<1>();
    finish_scores(i);
    wait_products<0>();
    pin(out);
    if (lane == 0) stage.free_v(i - 1).arrive();
    if (grows) {
#pragma unroll
      for (int e = 0; e < 64; ++e) out[e] *= running.weaken[e % 4 / 2];
    }
    pack(weights, scores);
  }
  const int last = span.blocks - 1, present = span.end - span.begin - last * kKeys;
  if (present < kKeys) {
    stage.full_v(last).wait(Stage::phase(last));
    stage.v(last).clear(present);
  }
  begin_sum(out, weights, stage, last);
  wait_products<0>();
  pin(out);
  write_rows<1>(a, tile, head, row, &out, running);
}

#endif

void attention_wgmma(const FlashAttention& a, cudaStream_t stream) { attend<NarrowWay>(a, stream); }

bool has_wgmma() {
  constexpr int kHopper = 90;  // of the virtual architecture that the kernel was compiled for
  cudaFuncAttributes attributes = {};
  return cudaFuncGetAttributes(&attributes, attend_tiles<NarrowWay>) == cudaSuccess && attributes.ptxVersion == kHopper;
}

}  // namespace inkstone::cuda
