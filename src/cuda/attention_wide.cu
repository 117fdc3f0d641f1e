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

/// Scores become weights. A lane has rows g and g + 8.
struct Running {
  float greatest[2] = {-INFINITY, -INFINITY};  // that weights are relative to
  float sum[2] = {};
  float weaken[2] = {};  // what was summed before must be, if renew() says so

  __device__ bool renew(SlimAccumulator& scores, float factor) {
    bool grows = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < 16; j += 4) most = fmaxf(most, fmaxf(scores[j + 2 * half], scores[j + 2 * half + 1]));
      most = quad_max(most);
      weaken[half] = 1;
      if ((most - greatest[half]) * factor > kMostPower) {
        weaken[half] = exp2_fast((greatest[half] - most) * factor);
        greatest[half] = most;
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

__device__ void write_rows(const FlashAttention& a, const Tile& tile, int head, int row, const Products& products,
                           const Running& running) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float inverse = 1.0f / quad_sum(running.sum[i]);
    const int query = row + 8 * i;
    if (query >= tile.queries) continue;
    __nv_bfloat16* to = result_of(a, tile, head, query);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < kHalf / 8; ++j) {
        const float* pair = products.out[half] + 4 * j + 2 * i;
        *reinterpret_cast<uint32_t*>(to + half * kHalf + 8 * j) = pack_bf16(pair[0] * inverse, pair[1] * inverse);
      }
  }
}

}  // namespace

__device__ void WideWay::multiply_blocks(const FlashAttention& a, const Tile& tile, const Stage& stage, int head,
                                         float factor) {
  const KeySpan span(a, tile, kKeys);
  const int first_row = (threadIdx.x / kGroup - 1) * 64;
  const int lane = threadIdx.x % kWarp;
  const int row = first_row + threadIdx.x % kGroup / kWarp * 16 + lane / 4;
  Products products = {stage, first_row};
  Running running;
  const auto finish_scores = [&](int i) {
    pin(products.scores);
    if (lane == 0) stage.free_k(i).arrive();
    const int first_key = span.begin + i * kKeys;
    if (first_key + kKeys > (a.causal ? tile.query : span.end)) {
#pragma unroll
      for (int e = 0; e < 16; ++e) {
        const int key = first_key + e / 4 * 8 + lane % 4 * 2 + e % 2;
        if (key >= span.end || (a.causal && key > tile.query + row + e % 4 / 2 * 8)) products.scores[e] = -INFINITY;
      }
    }
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
  write_rows(a, tile, head, row, products, running);
}

#endif

void attention_wide(const FlashAttention& a, cudaStream_t stream) { attend<WideWay>(a, stream); }

}  // namespace inkstone::cuda
