// What the kernels of flash attention with Hopper's instructions share.
#pragma once
#include "cuda/device_limits.cuh"
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {

// One thread copies, two warpgroups multiply.
constexpr int kAttendThreads = 3 * kGroup;
constexpr int kReaders = 2 * kGroup;
constexpr int kMostTurns = 3;  // groups that take turns
// The barrier after theirs; nvcc does not count its use in asm.
[[maybe_unused]] constexpr int kClearing = kMostTurns + 1;
// Of weights, as a power of two: sums that grow by 2^8 lose nothing, and hardly ever must be weakened.
[[maybe_unused]] constexpr float kMostPower = 8;
constexpr int kPanelWidth = 64;
constexpr int kPanelRow = 2 * kPanelWidth;  // bytes

struct QkvMaps {
  CUtensorMap q, k, v;
};

/// Rows of a head in shared memory as `describe` wants them.
template <int kPanels, int kRows>
struct HeadRows {
  static constexpr uint32_t kPanel = kRows * kPanelRow, kBytes = kPanels * kPanel;
  uint32_t base;

  /// From a head's first column and a row on. Behind the last row lie others' numbers, or zeros.
  __device__ void fill(const CUtensorMap& from, int column, int row, const Barrier& full) const {
    full.arrive_expecting(kBytes);
    for (uint32_t panel = 0; panel < kPanels; ++panel)
      copy_box(base + panel * kPanel, from, full, column + static_cast<int>(panel) * kPanelWidth, row);
  }
  /// By all threads that multiply: zeros in the rows from `present` on, since no weight of zero makes NaN a zero.
  __device__ void clear(int present) const {
    constexpr int kChunk = 16, kChunks = kPanelRow / kChunk;  // of a row in a panel
    for (int i = threadIdx.x % kReaders; i < kPanels * (kRows - present) * kChunks; i += kReaders) {
      const int row = present + i / kPanels / kChunks;
      clear_shared(base + i % kPanels * kPanel + row * kPanelRow + i / kPanels % kChunks * kChunk);
    }
    publish_to_products();
    asm volatile("bar.sync %0, %1;" ::"n"(kClearing), "n"(kReaders) : "memory");
  }
  /// For a product over 16 columns from `step` * 16 on, of the rows from `first` on.
  __device__ uint64_t columns(int step, int first = 0) const {
    return described_further(describe(base + first * kPanelRow), step / 4 * kPanel + step % 4 * kProductDepth);
  }
  /// For a product over 16 rows from `step` * 16 on, of the columns of the panels from `first` on.
  __device__ uint64_t rows(int step, int first = 0) const {
    return described_further(describe(base + first * kPanel, kPanel), step * 16 * kPanelRow);
  }
};

/// All of shared memory: the queries of a tile, and blocks of keys and values that take turns, for so many threads that
/// multiply.
template <class Queries, class Keys, int kStages, class Values = Keys, int kThreads = kReaders>
struct FlashStage {
  static constexpr int kBarriers = 4 * kStages + 1;
  static constexpr uint32_t kOperands = Queries::kBytes + kStages * (Keys::kBytes + Values::kBytes);
  static constexpr int kBytes = kOperands + kSwizzleBytes;  // and room to align
  uint32_t base, barriers;

  __device__ FlashStage(const void* memory, const void* memory_of_barriers)
      : base(swizzle_aligned(shared_address(memory))), barriers(shared_address(memory_of_barriers)) {}

  __device__ Queries q() const { return {base}; }
  __device__ Keys k(int i) const { return {base + Queries::kBytes + i % kStages * Keys::kBytes}; }
  __device__ Values v(int i) const {
    return {base + Queries::kBytes + kStages * Keys::kBytes + i % kStages * Values::kBytes};
  }
  __device__ Barrier barrier(int kind, int i) const { return Barrier::at(barriers, kind * kStages + i % kStages); }
  __device__ Barrier full_k(int i) const { return barrier(0, i); }
  __device__ Barrier full_v(int i) const { return barrier(1, i); }
  __device__ Barrier free_k(int i) const { return barrier(2, i); }
  __device__ Barrier free_v(int i) const { return barrier(3, i); }
  __device__ Barrier full_q() const { return Barrier::at(barriers, 4 * kStages); }
  /// Of its barriers for block i: 0 and 1 in turns, each time that the stage is used again.
  __device__ static int phase(int i) { return i / kStages % 2; }

  /// By the whole block.
  __device__ void init() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        full_k(i).init(1);
        full_v(i).init(1);
        free_k(i).init(kThreads / kWarp);
        free_v(i).init(kThreads / kWarp);
      }
      full_q().init(1);
      publish_barriers();
    }
    __syncthreads();
  }
};

/// The blocks of keys that a tile reads.
struct KeySpan {
  int begin, end, blocks;

  __device__ KeySpan(const FlashAttention& a, const Tile& t, int keys)
      : begin(t.key_begin),
        end(a.causal ? min(t.key_end, t.query + t.queries) : t.key_end),
        blocks((end - begin + keys - 1) / keys) {}
};

/// Where a tile's queries begin in `maps`, and its blocks of keys and values: column and row.
struct BlockPlaces {
  int2 q, k, v;
  int next_k, next_v;  // rows from a block to the next
};

/// All that a tile multiplies, by one thread.
template <class Stage>
__device__ void copy_blocks(const QkvMaps& maps, const BlockPlaces& at, int blocks, const Stage& stage) {
  stage.q().fill(maps.q, at.q.x, at.q.y, stage.full_q());
  for (int i = 0; i < blocks; ++i) {
    stage.free_k(i).wait(1 - stage.phase(i));
    stage.k(i).fill(maps.k, at.k.x, at.k.y + i * at.next_k, stage.full_k(i));
    stage.free_v(i).wait(1 - stage.phase(i));
    stage.v(i).fill(maps.v, at.v.x, at.v.y + i * at.next_v, stage.full_v(i));
  }
}

/// Of bf16 rows as they are joined.
__device__ inline BlockPlaces joined_places(const FlashAttention& a, const Tile& tile, int head, int keys) {
  const int2 first = make_int2(head / (a.heads / a.kv_heads) * a.width, tile.key_begin);
  return {make_int2(head * a.width, tile.query), first, first, keys, keys};
}

/// Lets warpgroups begin their products in turns, so that one computes weights while another multiplies
/// (FlashAttention-3). Named barriers from 1 on are theirs.
template <int kGroups>
struct Turns {
  static_assert(kGroups <= kMostTurns);
  static constexpr int kThreads = 2 * kGroup;  // whose turn it is, and who had the last
  int group;                                   // from 1 on, as its named barrier
  int left;                                    // turns of each group

  __device__ Turns(int index, int turns) : group(index), left(turns) {
    if (group == kGroups) pass();
  }
  __device__ void wait() const { asm volatile("bar.sync %0, %1;" ::"r"(group), "n"(kThreads) : "memory"); }
  __device__ void pass() const {
    asm volatile("bar.arrive %0, %1;" ::"r"(group % kGroups + 1), "n"(kThreads) : "memory");
  }
  /// Nobody waits for the end of the last.
  __device__ void end() {
    if (--left > 0 || group != kGroups) pass();
  }
};

/// What a lane knows of its two rows, eight apart, while blocks of keys pass by.
struct Running {
  float greatest[2] = {-INFINITY, -INFINITY};  // that weights are relative to
  float sum[2] = {};
  float weaken[2] = {};  // what was summed before must be

  /// Takes in scores of a row; whether they are so great that what was summed before must be weakened.
  template <int kScores>
  __device__ bool raise(const float (&scores)[kScores], int half, float factor) {
    float most = -INFINITY;
#pragma unroll
    for (int j = 2 * half; j < kScores; j += 4) most = fmaxf(most, fmaxf(scores[j], scores[j + 1]));
    most = quad_max(most);
    weaken[half] = 1;
    if ((most - greatest[half]) * factor > kMostPower) {
      weaken[half] = exp2_fast((greatest[half] - most) * factor);
      greatest[half] = most;
      return true;
    }
    return false;
  }
};

/// What a lane's rows, `row` of a tile and row + 8, do not see of a block's keys scores nothing.
template <int kScores>
__device__ void hide_keys(float (&scores)[kScores], const FlashAttention& a, const Tile& tile, const KeySpan& span,
                          int first_key, int row) {
  constexpr int kKeys = 2 * kScores;  // four lanes share two rows
  if (first_key + kKeys <= (a.causal ? tile.query : span.end)) return;
#pragma unroll
  for (int e = 0; e < kScores; ++e) {
    const int key = first_key + e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2;
    if (key >= span.end || (a.causal && key > tile.query + row + e % 4 / 2 * 8)) scores[e] = -INFINITY;
  }
}

/// Where a lane writes its numbers of a tile's query: pairs of columns, eight columns apart.
__device__ inline __nv_bfloat16* result_of(const FlashAttention& a, const Tile& tile, int head, int query) {
  return static_cast<__nv_bfloat16*>(a.out[tile.stream]) + (int64_t{tile.out_row + query} * a.heads + head) * a.width +
         threadIdx.x % 4 * 2;
}

/// Writes what a lane has of its rows: kSums weighted sums, in kParts beside each other, times a factor for each row.
template <int kParts, int kSums, int kHeld>
__device__ void write_rows(const FlashAttention& a, const Tile& tile, int head, int row, const float (*out)[kHeld],
                           const float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + 8 * half;
    if (query >= tile.queries) continue;
    __nv_bfloat16* to = result_of(a, tile, head, query);
#pragma unroll
    for (int part = 0; part < kParts; ++part)
#pragma unroll
      for (int j = 0; j < kSums; j += 4) {
        const float* pair = out[part] + j + 2 * half;
        *reinterpret_cast<uint32_t*>(to + 2 * (part * kSums + j)) =
            pack_bf16(pair[0] * factor[half], pair[1] * factor[half]);
      }
  }
}
/// The same divided by the sums of weights.
template <int kParts, int kSums>
__device__ void write_rows(const FlashAttention& a, const Tile& tile, int head, int row, const float (*out)[kSums],
                           const Running& running) {
  const float inverse[2] = {1.0f / quad_sum(running.sum[0]), 1.0f / quad_sum(running.sum[1])};
  write_rows<kParts, kSums>(a, tile, head, row, out, inverse);
}

/// Of bf16 tensors, in boxes of so many rows of queries, and of keys and values.
inline QkvMaps qkv_maps(const FlashAttention& a, int queries, int keys) {
  const auto map = [&](const void* data, int32_t heads, int box) {
    return tensor_map({{data, DType::bf16}, {int64_t{heads} * a.width, a.rows, 1, 1}, {kPanelWidth, box, 1, 1}});
  };
  return {map(a.q, a.heads, queries), map(a.k, a.kv_heads, keys), map(a.v, a.kv_heads, keys)};
}

/// A block for each tile and head. A Way has a Stage, keys of a block, the registers of threads that do not multiply
/// and of those that do, and multiply_blocks().
template <class Way>
__global__ void __launch_bounds__(kAttendThreads, 1)
    attend_tiles(const __grid_constant__ FlashAttention a, const __grid_constant__ QkvMaps maps, float factor) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[Way::Stage::kBarriers];
  const typename Way::Stage stage(memory, barriers);
  const Tile tile = a.tiles[blockIdx.x];
  stage.init();
  if (threadIdx.x < kGroup) {
    leave_registers<Way::kCopyRegisters>();
    if (threadIdx.x == 0)
      copy_blocks(maps, joined_places(a, tile, blockIdx.y, Way::kKeys), KeySpan(a, tile, Way::kKeys).blocks, stage);
  } else {
    take_registers<Way::kRegisters>();
    Way::multiply_blocks(a, tile, stage, blockIdx.y, factor);
  }
#endif
}

template <class Way>
void attend(const FlashAttention& a, cudaStream_t stream) {
  static_assert(can_share_registers(Way::kCopyRegisters, Way::kRegisters, kReaders / kGroup));
  if (a.tile_count == 0) return;
  constexpr int kBytes = Way::Stage::kBytes;
  allow_shared_memory(attend_tiles<Way>, kBytes, "attention");
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.heads));
  attend_tiles<Way><<<grid, kAttendThreads, kBytes, stream>>>(a, qkv_maps(a, kTileQueries, Way::kKeys),
                                                              kLog2E / sqrtf(static_cast<float>(a.width)));
}

}  // namespace inkstone::cuda
