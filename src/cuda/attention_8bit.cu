// Flash attention in 8 bits, for heads of 128: scores are whole numbers, weights become E4M3. One thread copies keys
// and values, three warpgroups multiply, each 64 queries. The values' rows of ones sum up weights as they were rounded.
#include "cuda/flash.cuh"
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kCodedGroups = kCodedQueries / 64;
constexpr int kCodedThreads = (1 + kCodedGroups) * kGroup, kCodedReaders = kCodedGroups * kGroup;
constexpr int kCodedStages = 3;
constexpr int kCopyRegisters = 32, kRegisters = 160;
static_assert(can_share_registers(kCopyRegisters, kRegisters, kCodedGroups));
constexpr int kCodeRow = 128;  // bytes of every row
// Sums of E4M3 products keep some 14 bits. After so many blocks, 1920 keys, they go on in f32. At 4160 rows the
// relative error is 4.3e-2 by this, 3.9e-2 after half as many, and 7.4e-2 without.
[[maybe_unused]] constexpr int kSumBlocks = 20;
// Weights are at most 2^8.8 = 446, and small ones keep what bits they have: the greatest is near 2^8.
[[maybe_unused]] constexpr float kTopPower = 8, kSlackPower = 0.8f;

/// Rows of codes in shared memory as `describe` wants them.
template <int kRows>
struct CodeRows {
  static constexpr uint32_t kBytes = kRows * kCodeRow;
  uint32_t base;

  __device__ void fill(const CUtensorMap& from, int column, int row, const Barrier& full) const {
    full.arrive_expecting(kBytes);
    copy_box(base, from, full, column, row);
  }
  /// For a product over kProductDepth bytes of the rows from `first` on.
  __device__ uint64_t columns(int step, int first = 0) const {
    return described_further(describe(base + first * kCodeRow), step * kProductDepth);
  }
};

using Stage =
    FlashStage<CodeRows<kCodedQueries>, CodeRows<kCodedKeys>, kCodedStages, CodeRows<kCodedValueRows>, kCodedReaders>;
constexpr int kSums = kCodedValueRows / 2;  // that a lane has
constexpr int kSharedBytes = Stage::kBytes + kCodedReaders * kSums * static_cast<int>(sizeof(float));

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kScores = kCodedKeys / 2;  // that a lane has
using PackedWeights = uint32_t[kScores / 4];

/// What a lane knows of its two rows, eight apart, while blocks of keys pass by.
struct CodedWeights {
  float factor[2];                             // of scores
  float greatest[2] = {-INFINITY, -INFINITY};  // that weights are relative to
  float weaken[2] = {1, 1};                    // what was summed before must be

  /// Scores become weights, in place; whether what was summed before must be weakened.
  __device__ bool renew(WholeAccumulator& scores, float key_scale, float power) {
    bool grows = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float by = factor[half] * key_scale;
      const float top = fmaf(static_cast<float>(row_most(scores, half)), by, power);
      weaken[half] = 1;
      if (top > greatest[half] + kSlackPower) {
        weaken[half] = exp2_fast(greatest[half] - top);
        greatest[half] = top;
        grows = true;
      }
      const float shift = power - greatest[half] + kTopPower;
#pragma unroll
      for (int j = 2 * half; j < kScores; j += 4)
#pragma unroll
        for (int e = j; e < j + 2; ++e)
          scores[e] = __float_as_int(exp2_fast(fmaf(static_cast<float>(scores[e]), by, shift)));
    }
    return __any_sync(kAllLanes, grows);
  }
  __device__ static int row_most(const WholeAccumulator& scores, int half) {
    int most = max(scores[2 * half], scores[2 * half + 1]);
#pragma unroll
    for (int j = 2 * half + 4; j < kScores; j += 4) most = __vimax3_s32(most, scores[j], scores[j + 1]);
    most = max(most, __shfl_xor_sync(kAllLanes, most, 1));
    return max(most, __shfl_xor_sync(kAllLanes, most, 2));
  }
};

/// The left operand of products with values whose slots are in the order of key_in() of code_qkv.cu.
__device__ void pack(PackedWeights& packed, const WholeAccumulator& weights) {
#pragma unroll
  for (int i = 0; i < kScores / 8; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto weight = [&](int e) { return __int_as_float(weights[8 * i + 2 * half + e]); };
      packed[2 * i + half] = codes_of(make_float4(weight(0), weight(1), weight(4), weight(5)), 1);
    }
}

/// A lane's sums, of all blocks in the end: those of older blocks wait in shared memory.
struct Sums {
  SummingAccumulator out = {};
  uint32_t older;
  float relative_to[2];  // what older ones are
  bool has_older = false;

  __device__ explicit Sums(const Stage& stage)
      : older(stage.base + Stage::kOperands + (threadIdx.x - kGroup) * sizeof(float)) {}

  __device__ void weaken(const CodedWeights& running) {
#pragma unroll
    for (int e = 0; e < kSums; ++e) out[e] *= running.weaken[e % 4 / 2];
  }
  __device__ void add_older(const CodedWeights& running) {
    if (!has_older) return;
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) factor[half] = exp2_fast(relative_to[half] - running.greatest[half]);
#pragma unroll
    for (int e = 0; e < kSums; ++e) {
      float was;
      asm volatile("ld.shared.f32 %0, [%1];" : "=f"(was) : "r"(place(e)));
      out[e] = fmaf(was, factor[e % 4 / 2], out[e]);
    }
  }
  __device__ void put_aside(const CodedWeights& running) {
    add_older(running);
#pragma unroll
    for (int e = 0; e < kSums; ++e) {
      asm volatile("st.shared.f32 [%0], %1;" ::"r"(place(e)), "f"(out[e]) : "memory");
      out[e] = 0;
    }
    has_older = true;
    relative_to[0] = running.greatest[0], relative_to[1] = running.greatest[1];
  }
  __device__ uint32_t place(int e) const { return older + static_cast<uint32_t>(e * kCodedReaders * sizeof(float)); }
};

__device__ void begin_scores(WholeAccumulator& scores, const Stage& stage, int first_row, int i) {
  stage.full_k(i).wait(Stage::phase(i));
  pin(scores);
  begin_products();
#pragma unroll
  for (int step = 0; step < kCodedHeadWidth / kProductDepth; ++step)
    multiply_async(scores, stage.q().columns(step, first_row), stage.k(i).columns(step), step > 0);
  commit_products();
}

__device__ void begin_sum(SummingAccumulator& out, const PackedWeights& weights, const Stage& stage, int i) {
  stage.full_v(i).wait(Stage::phase(i));
  pin(out);
  begin_products();
#pragma unroll
  for (int step = 0; step < kCodedKeys / kProductDepth; ++step)
    add_e4m3_async(out, weights + 4 * step, stage.v(i).columns(step));
  commit_products();
}

/// The blocks of a tile's sequence, of one key head.
struct BlockSpan {
  int64_t first;  // of all
  int count;

  __device__ BlockSpan(const FlashAttention& a, const CodedQkv& coded, const Tile& tile, int head)
      : first(int64_t{head / (a.heads / a.kv_heads)} * coded.block_count + tile.key_begin / kCodedKeys),
        count((tile.key_end - tile.key_begin + kCodedKeys - 1) / kCodedKeys) {}
};

__device__ BlockPlaces coded_places(const Tile& tile, const BlockSpan& span, int head) {
  const int first = static_cast<int>(span.first);
  return {make_int2(head * kCodedHeadWidth, tile.query), make_int2(0, first * kCodedKeys),
          make_int2(0, first * kCodedValueRows), kCodedKeys, kCodedValueRows};
}

__device__ void multiply_blocks(const FlashAttention& a, const CodedQkv& coded, const Tile& tile, const BlockSpan& span,
                                const Stage& stage, int head) {
  const KeyBlockScales* const scales = coded.scales + span.first;
  const int group = static_cast<int>(threadIdx.x) / kGroup, first_row = (group - 1) * 64;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int row = first_row + static_cast<int>(threadIdx.x) % kGroup / kWarp * 16 + lane / 4;
  WholeAccumulator scores;
  PackedWeights weights;
  Sums sums(stage);
  CodedWeights running;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = min(row + 8 * half, tile.queries - 1);
    running.factor[half] = coded.q_scales[head * a.rows + tile.query + query];
  }
  bool grows = false;
  const auto finish_scores = [&](int i, const float2& scale) {
    pin(scores);
    grows = running.renew(scores, scale.x, scale.y);
    __syncwarp();
    // Keys are let go late, and only by who knows the greatest score, of which no factor becomes negative: see
    // attention_wgmma.cu. What is infinite or not a number lets go as well, else copies would wait for ever.
    if (lane == 0 && !(running.weaken[0] < 0)) stage.free_k(i).arrive();
  };
  const auto scale_of = [&](int i) { return make_float2(scales[i].key, scales[i].power); };

  stage.full_q().wait(0);
  Turns<kCodedGroups> turns(group, span.count);
  float2 scale = scale_of(0);
  turns.wait();
  begin_scores(scores, stage, first_row, 0);
  turns.end();
  wait_products<0>();
  finish_scores(0, scale);
  pack(weights, scores);
  for (int i = 1; i < span.count; ++i) {
    scale = scale_of(i);
    turns.wait();
    begin_scores(scores, stage, first_row, i);
    begin_sum(sums.out, weights, stage, i - 1);
    turns.end();
    wait_products<1>();
    finish_scores(i, scale);
    wait_products<0>();
    pin(sums.out);
    if (lane == 0) stage.free_v(i - 1).arrive();
    if (grows) sums.weaken(running);
    if (i % kSumBlocks == 0) sums.put_aside(running);
    pack(weights, scores);
  }
  begin_sum(sums.out, weights, stage, span.count - 1);
  wait_products<0>();
  pin(sums.out);
  sums.add_older(running);
  const float factor[2] = {scales[0].value / sums.out[kSums - 4], scales[0].value / sums.out[kSums - 2]};
  write_rows<1, kCodedHeadWidth / 2>(a, tile, head, row, &sums.out, factor);
}

#endif

__global__ void __launch_bounds__(kCodedThreads, 1)
    attend_coded_tiles(const __grid_constant__ FlashAttention a, const __grid_constant__ CodedQkv coded,
                       const __grid_constant__ QkvMaps maps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[Stage::kBarriers];
  const Stage stage(memory, barriers);
  const Tile tile = a.tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);
  const BlockSpan span(a, coded, tile, head);
  stage.init();
  if (threadIdx.x < kGroup) {
    leave_registers<kCopyRegisters>();
    if (threadIdx.x == 0) copy_blocks(maps, coded_places(tile, span, head), span.count, stage);
  } else {
    take_registers<kRegisters>();
    multiply_blocks(a, coded, tile, span, stage, head);
  }
#endif
}

/// Rows of codes in boxes of so many.
CUtensorMap code_map(const void* codes, int64_t width, int64_t rows, int box) {
  return tensor_map({{codes, DType::f8_e4m3}, {width, rows, 1, 1}, {kCodeRow, box, 1, 1}});
}

}  // namespace

void attention_8bit(const FlashAttention& a, const CodedQkv& coded, cudaStream_t stream) {
  if (a.tile_count == 0) return;
  allow_shared_memory(attend_coded_tiles, kSharedBytes, "attention");
  const int64_t blocks = int64_t{a.kv_heads} * coded.block_count;
  const QkvMaps maps = {code_map(coded.q, int64_t{a.heads} * kCodedHeadWidth, a.rows, kCodedQueries),
                        code_map(coded.k, kCodedHeadWidth, blocks * kCodedKeys, kCodedKeys),
                        code_map(coded.v, kCodedSlots, blocks * kCodedValueRows, kCodedValueRows)};
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.heads));
  attend_coded_tiles<<<grid, kCodedThreads, kSharedBytes, stream>>>(a, coded, maps);
}

}  // namespace inkstone::cuda
