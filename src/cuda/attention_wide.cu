// Flash attention with Hopper's instructions for heads of 384, as the VAE's middle has one. A warpgroup has 64 queries,
// whose weighted sums fill most of its registers; so queries stay in shared memory, and a block has few keys.
#include "cuda/flash.cuh"

namespace inkstone::cuda {

constexpr int kPanels = kWideFlashWidth / kPanelWidth;

struct WideWay {
  static constexpr int kKeys = 32;  // of a block
  static constexpr int kCopyRegisters = 24, kRegisters = 240;
  using Stage = FlashStage<HeadRows<kPanels, kTileQueries>, HeadRows<kPanels, kKeys>, 2>;

  __device__ static void multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head,
                                         float factor);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace {

constexpr int kKeys = WideWay::kKeys;
using Stage = WideWay::Stage;

constexpr int kHalf = kWideFlashWidth / 2;

/// Scores become weights.
struct Weights : Running {
  /// Whether what was summed before must be weakened.
  __device__ bool renew(SlimAccumulator& scores, float factor) {
    bool grows = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (raise(scores, half, factor)) {
        sum[half] *= weaken[half];
        grows = true;
      }
      const float shift = greatest[half] * factor;
#pragma unroll
      for (int j = 0; j < 16; j += 4)
#pragma unroll
        for (int e = j + 2 * half; e < j + 2 * half + 2; ++e) {
          scores[e] = exp2_fast(fmaf(scores[e], factor, -shift));
          sum[half] += scores[e];
        }
    }
    return __any_sync(kAllLanes, grows);
  }
};

/// A warpgroup's queries times blocks of keys, and weights times values.
struct Products {
  Stage stage;
  int first_row;
  SlimAccumulator scores;
  WideAccumulator out[2] = {};  // of the first and the second half of the columns
  uint32_t weights[8];

  __device__ void begin_scores(int i) {
    stage.full_k(i).wait(Stage::phase(i));
    pin(scores);
    begin_products();
#pragma unroll
    for (int step = 0; step < kWideFlashWidth / 16; ++step)
      multiply_async(scores, stage.q().columns(step, first_row), stage.k(i).columns(step), step > 0);
    commit_products();
  }
  __device__ void begin_sum(int i) {
    pin(out[0]);
    pin(out[1]);
    begin_products();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        multiply_async(out[half], weights + 4 * step, stage.v(i).rows(step, half * kPanels / 2));
    commit_products();
  }
  __device__ void finish_sum() {
    wait_products<0>();
    pin(out[0]);
    pin(out[1]);
  }
  __device__ void weaken(const float (&factors)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < kHalf / 2; ++e) out[half][e] *= factors[e % 4 / 2];
  }
  __device__ void pack() {
#pragma unroll
    for (int i = 0; i < 8; ++i) weights[i] = pack_bf16(scores[2 * i], scores[2 * i + 1]);
  }
};

}  // namespace

__device__ void WideWay::multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head,
                                         float factor) {
  const KeySpan span(a, tile, kKeys);
  const int first_row = (threadIdx.x / kGroup - 1) * 64;
  const int lane = threadIdx.x % kWarp;
  const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4;
  Products products = {stage, first_row};
  Weights running;
  const auto finish_scores = [&](int i) {
    pin(products.scores);
    if (lane == 0) stage.free_k(i).arrive();
    hide_keys(products.scores, a, tile, span, span.begin + i * kKeys, row);
    return running.renew(products.scores, factor);
  };

  stage.full_q().wait(0);
  for (int i = 0; i < span.blocks; ++i) {
    products.begin_scores(i);
    wait_products<0>();
    if (finish_scores(i)) products.weaken(running.weaken);
    products.pack();
    const int present = span.end - span.begin - i * kKeys;
    stage.full_v(i).wait(Stage::phase(i));
    if (present < kKeys) stage.v(i).clear(present);
    products.begin_sum(i);
    products.finish_sum();
    if (lane == 0) stage.free_v(i).arrive();
  }
  write_rows<2>(a, tile, head, row, products.out, running);
}

#endif

void attention_wide(const FlashAttention& a, cudaStream_t stream) { attend<WideWay>(a, stream); }

}  // namespace inkstone::cuda
