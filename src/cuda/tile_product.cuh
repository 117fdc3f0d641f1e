// Products of Hopper's in tiles of 128 rows and 256 outputs. Blocks come in pairs that share an operand: two tiles one
// below the other read the same weights, of which each block brings half for both; a last row of tiles goes by two
// beside each other. One thread copies, two warpgroups multiply, each 64 rows. Blocks stay and take tile after tile, so
// that the next tile's copies run while results are written.
#pragma once
#include <algorithm>

#include "cuda/device_limits.cuh"
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace inkstone::cuda {

constexpr int kMultiplyingGroups = 2;
constexpr int kProductThreads = (1 + kMultiplyingGroups) * kGroup;
constexpr int kTileRows = 128, kTileOuts = 256, kGroupRows = kTileRows / 2;
constexpr int kStepBytes = 128;                                              // of each row in a step
constexpr int kPair = 2;                                                     // blocks of a cluster
constexpr int kResidualOuts = kStepBytes / static_cast<int>(sizeof(float));  // of a box of residuals, which are f32
constexpr int kResidualBoxes = kTileOuts / kResidualOuts;                    // of a tile
constexpr int kStepBoxes = 3;                                                // that fill a stage
constexpr int kResidualSteps = (kResidualBoxes + kStepBoxes - 1) / kStepBoxes;
constexpr int kPairGroup = 8;  // pairs of tiles below each other that are taken before those beside them

/// One of the products of a launch, as tiles.
struct TiledPart {
  CUtensorMap x, w, residual;
  int rows = 0;
  int row_tiles = 0;
  int first_pair = 0;  // of tiles
};

struct TiledProducts {
  TiledPart parts[kMaxFused];
  int count = 0;
  int column_tiles = 0, steps = 0, step_numbers = 0, pairs = 0;
  bool has_residual = false;  // of every part
};

/// What a lane holds of a tile's columns while it multiplies: two of each vector.
struct LaneColumns {
  float2 vectors[3];
};
/// The same of a warpgroup in shared memory: a factor, a shift, and what else an output has.
struct TileColumns {
  float scale[kTileOuts], shift[kTileOuts], extra[kTileOuts];
};
constexpr int kProductStages = 4;  // of shared memory, each with a step's 128 rows of x and 256 of weights
constexpr int kRingBytes = kProductStages * (kTileRows + kTileOuts) * kStepBytes;
constexpr int kProductBytes = kRingBytes + kMultiplyingGroups * sizeof(TileColumns) + kSwizzleBytes;
using ProductRegisters = SharedRegisters<40>;
constexpr int kFirstGroupBarrier = 1;  // of the named ones, one for each multiplying group; __syncthreads() has 0

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Stages of shared memory in the order of their use.
struct ProductRing {
  static constexpr int kStages = kProductStages, kBarriers = 2 * kStages;
  static constexpr uint32_t kRowsBytes = kTileRows * kStepBytes, kRoom = kRowsBytes + kTileOuts * kStepBytes;
  static constexpr uint32_t kBytes = kRingBytes, kBoxBytes = kTileRows * kStepBytes;
  static_assert(kBytes == kStages * kRoom && kStepBoxes * kBoxBytes <= kRoom);
  uint32_t base, barriers;
  unsigned used = 0;

  __device__ uint32_t x() const { return base + used % kStages * kRoom; }
  __device__ uint32_t w() const { return x() + kRowsBytes; }
  /// Of residuals.
  __device__ uint32_t box(int i) const { return x() + static_cast<uint32_t>(i) * kBoxBytes; }
  __device__ int phase() const { return static_cast<int>(used / kStages % 2); }
  __device__ Barrier full() const { return Barrier::at(barriers, used % kStages); }
  __device__ Barrier free(unsigned behind = 0) const {
    return Barrier::at(barriers, kStages + (used - behind) % kStages);
  }
  /// By all threads of both blocks.
  __device__ void open() const {
    constexpr int kReaders =
        kPair * kMultiplyingGroups * kGroup / kWarp;  // warps of both blocks: each fills the other's memory
    if (threadIdx.x == 0) {
      for (uint32_t i = 0; i < kStages; ++i) {
        Barrier::at(barriers, i).init(1);
        Barrier::at(barriers, kStages + i).init(kReaders);
      }
      publish_barriers();
    }
    meet_cluster();
  }
  /// By a whole warp that has read the stage of the step before.
  __device__ void release_last() const {
    if (threadIdx.x % kWarp < kPair) free(1).arrive_at(threadIdx.x % kWarp);
  }
};

/// Where a block's tile lies. `below`: the pair's tiles lie below each other, not beside.
struct ProductTile {
  int part, row, out;
  bool below;

  __device__ ProductTile(const TiledProducts& t, int pair, int rank) {
    part = t.count > 1 && pair >= t.parts[1].first_pair ? 1 : 0;
    const TiledPart& p = t.parts[part];
    int index = pair - p.first_pair;
    const int pair_rows = p.row_tiles / kPair;
    below = index < pair_rows * t.column_tiles;
    if (below) {
      const int group = index / (kPairGroup * t.column_tiles), first = group * kPairGroup;
      const int height = min(kPairGroup, pair_rows - first);
      index -= first * t.column_tiles;
      row = ((first + index % height) * kPair + rank) * kTileRows;
      out = index / height * kTileOuts;
    } else {
      row = (p.row_tiles - 1) * kTileRows;
      out = ((index - pair_rows * t.column_tiles) * kPair + rank) * kTileOuts;
    }
  }
};

/// A tile's residuals, in the stages behind those of its products.
__device__ inline void copy_residuals(const TiledPart& part, const ProductTile& tile, ProductRing& ring) {
  for (int first = 0; first < kResidualBoxes; first += kStepBoxes, ++ring.used) {
    const int boxes = min(kStepBoxes, kResidualBoxes - first);
    ring.free().wait(1 - ring.phase());
    ring.full().arrive_expecting(static_cast<uint32_t>(boxes) * ProductRing::kBoxBytes);
    for (int i = 0; i < boxes; ++i)
      copy_box(ring.box(i), part.residual, ring.full(), tile.out + (first + i) * kResidualOuts, tile.row);
  }
}

__device__ inline void copy_tiles(const TiledProducts& t, ProductRing ring, int rank) {
  constexpr uint16_t kBoth = (1 << kPair) - 1;
  constexpr int kHalfOuts = kTileOuts / 2;
  for (int pair = blockIdx.x / kPair; pair < t.pairs; pair += gridDim.x / kPair) {
    const ProductTile tile(t, pair, rank);
    const TiledPart& part = t.parts[tile.part];
    if (t.has_residual)
      for (int box = 0; box < kResidualBoxes; ++box)
        fetch_box(part.residual, tile.out + box * kResidualOuts, tile.row, 0, 0);
    for (int step = 0; step < t.steps; ++step, ++ring.used) {
      const int k = step * t.step_numbers;
      const Barrier full = ring.full();
      ring.free().wait(1 - ring.phase());
      full.arrive_expecting(ProductRing::kRoom);
      if (tile.below) {
        copy_box(ring.x(), part.x, full, k, tile.row);
        copy_box(ring.x() + kGroupRows * kStepBytes, part.x, full, k, tile.row + kGroupRows);
        const int half = rank * kHalfOuts;
        copy_box_to(kBoth, ring.w() + half * kStepBytes, part.w, full, k, tile.out + half);
      } else {
        const int half = rank * kGroupRows;
        copy_box_to(kBoth, ring.x() + half * kStepBytes, part.x, full, k, tile.row + half);
        copy_box(ring.w(), part.w, full, k, tile.out);
        copy_box(ring.w() + kHalfOuts * kStepBytes, part.w, full, k, tile.out + kHalfOuts);
      }
    }
    if (t.has_residual) copy_residuals(part, tile, ring);
  }
}

template <DType kType>
__device__ void begin_product(WidestAccumulator& sums, uint32_t x, uint32_t w) {
  const uint64_t left = describe(x), right = describe(w);
  kType == DType::bf16 ? begin_bf16_async(sums, left, right) : begin_e4m3_async(sums, left, right);
}
template <DType kType>
__device__ void add_product(WidestAccumulator& sums, uint32_t x, uint32_t w) {
  const uint64_t left = describe(x), right = describe(w);
  kType == DType::bf16 ? add_bf16_async(sums, left, right) : add_e4m3_async(sums, left, right);
}

/// Lets memory go that a warpgroup does not read.
__device__ inline void skip_tile(ProductRing& ring, int steps) {
  for (int step = 0; step < steps; ++step) {
    ring.full().wait(ring.phase());
    ++ring.used;
    ring.release_last();
  }
}

/// The sums of a warpgroup's 64 rows.
template <DType kType>
__device__ void multiply_tile(WidestAccumulator& sums, ProductRing& ring, int steps) {
  const uint32_t first = (threadIdx.x / kGroup - 1) * kGroupRows * kStepBytes;
  ring.full().wait(ring.phase());
  begin_products();
  begin_product<kType>(sums, ring.x() + first, ring.w());
#pragma unroll
  for (int k = kProductDepth; k < kStepBytes; k += kProductDepth)
    add_product<kType>(sums, ring.x() + first + k, ring.w() + k);
  commit_products();
  ++ring.used;
  for (int step = 1; step < steps; ++step, ++ring.used) {
    ring.full().wait(ring.phase());
    begin_products();
#pragma unroll
    for (int k = 0; k < kStepBytes; k += kProductDepth) add_product<kType>(sums, ring.x() + first + k, ring.w() + k);
    commit_products();
    wait_products<1>();
    ring.release_last();
  }
  wait_products<0>();
  pin(sums);
  ring.release_last();
}

/// By a warpgroup: each lane's columns for all.
__device__ inline void share_columns(TileColumns& to, const LaneColumns& held, int group) {
  const auto meet = [group] {
    asm volatile("bar.sync %0, %1;" ::"r"(kFirstGroupBarrier + group), "n"(kGroup) : "memory");
  };
  const int column = 2 * (static_cast<int>(threadIdx.x) % kGroup);
  meet();  // the last tile's are read
  *reinterpret_cast<float2*>(to.scale + column) = held.vectors[0];
  *reinterpret_cast<float2*>(to.shift + column) = held.vectors[1];
  *reinterpret_cast<float2*>(to.extra + column) = held.vectors[2];
  meet();
}

#endif

/// What a lane does to its tile is a Lane(job, part, row, out): it begins to load what it will want, some of it as
/// `columns`, while its sums are still to come; finish(sums, columns of the tile, ring) gets those of the 64 rows and
/// 256 outputs that begin there.
template <DType kType, class Lane, class Job>
__device__ void multiply_tiles(const TiledProducts& t, const Job& job) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[ProductRing::kBarriers];
  const uint32_t gap = (kSwizzleBytes - shared_address(memory) % kSwizzleBytes) % kSwizzleBytes;
  ProductRing ring = {shared_address(memory) + gap, shared_address(barriers)};
  const int rank = static_cast<int>(rank_in_cluster());
  ring.open();
  if (threadIdx.x < kGroup) {
    leave_registers<ProductRegisters::kCopying>();
    if (threadIdx.x == 0) copy_tiles(t, ring, rank);
  } else {
    take_registers<ProductRegisters::kMultiplying>();
    const int group = static_cast<int>(threadIdx.x / kGroup) - 1;
    TileColumns& columns = reinterpret_cast<TileColumns*>(memory + gap + ProductRing::kBytes)[group];
    for (int pair = blockIdx.x / kPair; pair < t.pairs; pair += gridDim.x / kPair) {
      const ProductTile tile(t, pair, rank);
      const int row = tile.row + group * kGroupRows;
      if (row >= t.parts[tile.part].rows) {
        skip_tile(ring, t.steps + (t.has_residual ? kResidualSteps : 0));
        continue;
      }
      Lane lane(job, tile.part, row, tile.out);
      WidestAccumulator sums;
      multiply_tile<kType>(sums, ring, t.steps);
      share_columns(columns, lane.columns, group);
      lane.finish(sums, columns, ring);
    }
  }
  meet_cluster();  // the other block may still fill this one's memory, or arrive at its barriers
#endif
}

/// Blocks of a product's kernel in pairs, as many as the device holds at once or there is work for.
template <class Kernel, class Job>
void launch_in_pairs(const Kernel& kernel, int pairs, const Job& job, cudaStream_t stream) {
  constexpr const char* kOp = "linear";
  allow_shared_memory(kernel, kProductBytes, kOp);
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kPair;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(kPair * std::min(pairs, multiprocessors(kOp) / kPair)));
  config.blockDim = dim3(kProductThreads);
  config.dynamicSmemBytes = kProductBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  check_cuda(cudaLaunchKernelEx(&config, kernel, job), kOp);
}

/// Of products that are alike but for rows and pointers.
inline TiledProducts tiles_of(const FusedProduct* parts, int count) {
  TiledProducts t;
  const auto width = static_cast<int64_t>(size_of(parts[0].type));
  t.count = count;
  t.has_residual = parts[0].residual.data != nullptr;
  t.column_tiles = static_cast<int>(blocks_for(parts[0].outs, kTileOuts));
  t.steps = static_cast<int>(blocks_for(parts[0].depth * width, kStepBytes));
  t.step_numbers = kStepBytes / static_cast<int>(width);
  for (int i = 0; i < count; ++i) {
    const FusedProduct& p = parts[i];
    TiledPart& part = t.parts[i];
    part.x = tensor_map({{p.x, p.type}, {p.depth, p.rows, 1, 1}, {t.step_numbers, kGroupRows, 1, 1}});
    part.w = tensor_map({{p.w, p.type}, {p.depth, p.outs, 1, 1}, {t.step_numbers, kTileOuts / 2, 1, 1}});
    if (t.has_residual)
      part.residual = tensor_map({p.residual, {p.outs, p.rows, 1, 1}, {kResidualOuts, kTileRows, 1, 1}});
    part.rows = static_cast<int>(p.rows);
    part.row_tiles = static_cast<int>(blocks_for(p.rows, kTileRows));
    part.first_pair = t.pairs;
    t.pairs += part.row_tiles / kPair * t.column_tiles +
               part.row_tiles % kPair * static_cast<int>(blocks_for(t.column_tiles, kPair));
  }
  return t;
}

}  // namespace inkstone::cuda
