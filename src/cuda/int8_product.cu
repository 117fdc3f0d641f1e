// Products of mixed codes by the tensor cores' whole numbers, from Ampere on. A group's products are exact; its sum is
// then taken to f32 with the scales of its row and its output. A block of threads makes 192 rows of two strips, a warp
// 32 rows of one strip.
#include "cuda/device_limits.cuh"
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"
#include "ops/mixed_order.h"

namespace inkstone::cuda {
namespace {

constexpr int kWarpRows = 32;
constexpr int kRowWarps = 6, kStrips = 2;  // a warp for each of them
constexpr int kRows = kRowWarps * kWarpRows;
constexpr int kBlockThreads = kRowWarps * kStrips * kWarp;
constexpr int kDepth = 128;       // inputs that are copied at once
constexpr int kInstruction = 32;  // inputs of an instruction
constexpr int kStages = 2;        // more do not fit where a block of threads has 99 KB
constexpr int kStagesOfGroup = kMixedGroup / kDepth, kStagesOfPanel = kMixedPanel / kDepth;
static_assert(kMixedGroup % kDepth == 0 && kMixedPanel % kMixedGroup == 0);

constexpr int kPiece = 16;                   // bytes of a copy
constexpr int kRowPieces = kDepth / kPiece;  // of a row in a stage
constexpr int kSteps = kDepth / kMixedStep;  // of a strip in a stage
constexpr int kStepWords = kMixedStrip + 8;  // so that four steps and eight outputs meet in no bank
constexpr int kPieceWords = kPiece / kMixedStep;
constexpr int kStepPieces = kMixedStrip / kPieceWords;
constexpr int kRowTiles = kWarpRows / 16, kOutTiles = kMixedStrip / 8;  // instructions of a warp

struct Stage {
  uint8_t rows[kRows * kDepth];
  uint32_t strips[kStrips][kSteps * kStepWords];
};
struct GroupScales {
  MixedScale rows[kRows];
  float strips[kStrips][kMixedStrip];
};
struct Memory {
  Stage stages[kStages];
  GroupScales scales[2];  // of a group and the next one
};

/// d (16, 8) += a (16, 32) b (32, 8): codes with a sign times codes without one.
__device__ inline void multiply_add_codes(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Which rows and strips a block of threads has.
struct Place {
  int64_t row;
  MixedSlab slab;
  int64_t output;  // of the slab

  __device__ explicit Place(const MixedProduct& p) : row(int64_t{blockIdx.x} * kRows) {
    int64_t tile = blockIdx.y;
    for (int s = 0; s < p.slab_count; ++s) {
      slab = p.slabs[s];
      const int64_t tiles = (slab.outs + kStrips * kMixedStrip - 1) / (kStrips * kMixedStrip);
      if (tile < tiles) break;
      tile -= tiles;
    }
    output = tile * kStrips * kMixedStrip;
  }
};

/// A thread's copies of what the next products read: a piece of some rows, and of some steps of a strip.
class Loader {
 public:
  const int chunks;

  __device__ Loader(const MixedProduct& product, const Place& at, Memory& to)
      : chunks(static_cast<int>((product.in + kDepth - 1) / kDepth)),
        p_(product),
        place_(at),
        memory_(to),
        order_{at.slab.outs, product.in},
        columns_(at.output + strip_ * kMixedStrip < order_.out
                     ? static_cast<int>(order_.columns(at.output + strip_ * kMixedStrip))
                     : 0),
        rows_left_(static_cast<int>(min(product.rows - at.row, int64_t{kRows}))),
        from_rows_(product.codes + at.row * product.in + piece_ * kPiece) {}

  /// The next stage's, if there is one.
  __device__ void load() {
    if (chunk_ < chunks) {
      Stage& stage = memory_.stages[chunk_ % kStages];
      const int left = static_cast<int>(p_.in) - chunk_ * kDepth;  // inputs
      load_rows(stage, left);
      load_strip(stage, left);
      if (chunk_ % kStagesOfGroup == 0) load_scales(memory_.scales[chunk_ / kStagesOfGroup % 2]);
      ++chunk_;
    }
    commit_copies();
  }

 private:
  static constexpr int kApartRows = kBlockThreads / kRowPieces, kStripThreads = kBlockThreads / kStrips;
  static constexpr int kApartSteps = kStripThreads / kStepPieces;
  static_assert(kStripThreads % kStepPieces == 0 && kSteps % kApartSteps == 0 && kApartRows % 8 == 0);

  __device__ void load_rows(Stage& stage, int left) {
    const uint32_t to = shared_address(stage.rows) + row_ * kDepth + (piece_ ^ (row_ & 7)) * kPiece;
    const int rows = piece_ * kPiece < left ? rows_left_ : 0;
    const int8_t* from = from_rows_ + row_ * p_.in;
#pragma unroll
    for (int k = 0; k < kRows / kApartRows; ++k) {
      const bool present = row_ + k * kApartRows < rows;
      copy_async(to + k * kApartRows * kDepth, present ? from : p_.codes, present);
      from += kApartRows * p_.in;
    }
    from_rows_ += kDepth;
  }

  __device__ void load_strip(Stage& stage, int left) {
    if (chunk_ % kStagesOfPanel == 0)
      from_strip_ = place_.slab.codes + order_.codes(place_.output + strip_ * kMixedStrip, int64_t{chunk_} * kDepth) +
                    (step_ * columns_ + word_) * kMixedStep;
    const uint32_t to = shared_address(stage.strips[strip_] + step_ * kStepWords + word_);
    const int steps = word_ < columns_ ? left / kMixedStep : 0;
#pragma unroll
    for (int k = 0; k < kSteps / kApartSteps; ++k) {
      const bool present = step_ + k * kApartSteps < steps;
      copy_async(to + k * kApartSteps * kStepWords * kMixedStep,
                 present ? from_strip_ + k * kApartSteps * kMixedStep * columns_ : place_.slab.codes, present);
    }
    from_strip_ += kDepth * columns_;
  }

  __device__ void load_scales(GroupScales& to) const {
    const int64_t group = chunk_ / kStagesOfGroup;
    if (thread_ < kRows) {
      const bool present = thread_ < rows_left_;
      copy_async_pair(shared_address(to.rows + thread_),
                      p_.scales + (present ? group * p_.rows + place_.row + thread_ : 0), present);
    }
    if (step_ == 0) {
      const bool present = word_ < columns_;
      const int64_t from =
          present ? order_.scale(place_.output + strip_ * kMixedStrip, group * kMixedGroup) + word_ : 0;
      copy_async(shared_address(to.strips[strip_] + word_), place_.slab.scales + from, present);
    }
  }

  const MixedProduct& p_;
  const Place& place_;
  Memory& memory_;
  const MixedOrder order_;
  const int thread_ = static_cast<int>(threadIdx.x);
  const int row_ = thread_ / kRowPieces, piece_ = thread_ % kRowPieces;
  const int strip_ = thread_ / kStripThreads, step_ = thread_ % kStripThreads / kStepPieces;
  const int word_ = thread_ % kStepPieces * kPieceWords;
  const int columns_;    // of its strip
  const int rows_left_;  // of the block of threads
  const int8_t* from_rows_;
  const uint8_t* from_strip_ = nullptr;
  int chunk_ = 0;
};

/// A warp's sums, as the instructions' lanes hold them. Which of a strip's outputs an instruction has is chosen such
/// that a lane reads neighbours of its weights at once, and has neighbours of the result: eight and four.
struct Sums {
  static constexpr int kOuts = 12;  // of a lane

  const Memory& memory;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_row = warp / kStrips * kWarpRows, strip = warp % kStrips;
  int of_group[kRowTiles][kOutTiles][4];
  float all[kRowTiles][2][kOuts] = {};

  __device__ explicit Sums(const Memory& m) : memory(m) {}

  /// Codes of weights are 128 too large: that times the sum of a row's codes is taken off before they are multiplied.
  __device__ void begin_group(const GroupScales& scales) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int offset = -static_cast<int>(kMixedOffset) * scales.rows[row(i, half)].sum;
#pragma unroll
        for (auto& d : of_group[i]) d[2 * half] = d[2 * half + 1] = offset;
      }
  }

  __device__ void multiply(const Stage& stage) {
    const uint32_t rows = shared_address(stage.rows) + (first_row + lane % 16) * kDepth;
    const uint32_t* weights = stage.strips[strip] + lane % 4 * kStepWords;
#pragma unroll
    for (int k = 0; k < kDepth / kInstruction; ++k) {
      uint32_t a[kRowTiles][4], low[kOutTiles], high[kOutTiles];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i)
        load_matrices(a[i], rows + 16 * i * kDepth + ((2 * k + lane / 16) ^ (lane & 7)) * kPiece);
      const uint32_t* step = weights + kInstruction / kMixedStep * k * kStepWords;
      load_outs(low, step);
      load_outs(high, step + 4 * kStepWords);
#pragma unroll
      for (int j = 0; j < kOutTiles; ++j)
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) multiply_add_codes(of_group[i][j], a[i], low[j], high[j]);
    }
  }

  __device__ void end_group(const GroupScales& scales) {
    float of_out[kOuts];
#pragma unroll
    for (int o = 0; o < kOuts; o += 4)
      *reinterpret_cast<float4*>(of_out + o) = *reinterpret_cast<const float4*>(scales.strips[strip] + column(o));
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float of_row = scales.rows[row(i, half)].scale;
#pragma unroll
        for (int o = 0; o < kOuts; ++o) {
          const int j = o < 8 ? o % 4 : 4 + o % 2, e = o < 8 ? o / 4 : (o - 8) / 2;
          all[i][half][o] += static_cast<float>(of_group[i][j][2 * half + e]) * (of_row * of_out[o]);
        }
      }
  }

  __device__ int row(int i, int half) const { return first_row + 16 * i + 8 * half + lane / 4; }
  /// Where the `o`-th output lies in the strip.
  __device__ int column(int o) const { return o < 8 ? lane % 4 * 8 + o : 32 + lane % 4 * 4 + o - 8; }

 private:
  /// Of one step: what column lane / 4 of each instruction has.
  __device__ void load_outs(uint32_t (&w)[kOutTiles], const uint32_t* step) const {
    const uint4 four = *reinterpret_cast<const uint4*>(step + lane / 4 * 4);
    const uint2 two = *reinterpret_cast<const uint2*>(step + 32 + lane / 4 * 2);
    w[0] = four.x, w[1] = four.y, w[2] = four.z, w[3] = four.w, w[4] = two.x, w[5] = two.y;
  }
};

__device__ float activated(float x, Activation activation) {
  return activation == Activation::gelu_tanh ? gelu_by_exp(x) : activate(x, activation);
}

/// What is left to do with four sums.
__device__ float4 finished(const MixedProduct& p, float4 v, int64_t row, int64_t column) {
  if (p.bias != nullptr) {
    const float4 b = *reinterpret_cast<const float4*>(p.bias + column);
    v.x += b.x, v.y += b.y, v.z += b.z, v.w += b.w;
  }
  v = make_float4(activated(v.x, p.activation), activated(v.y, p.activation), activated(v.z, p.activation),
                  activated(v.w, p.activation));
  if (p.gate.table.data != nullptr) {
    const float4 g = load4(p.gate.table, vector_start(p.gate, row, p.outs) + column);
    v.x *= g.x, v.y *= g.y, v.z *= g.z, v.w *= g.w;
  }
  if (p.residual.data != nullptr) {
    const float4 r = load4(p.residual, row * p.outs + column);
    v.x += r.x, v.y += r.y, v.z += r.z, v.w += r.w;
  }
  return v;
}

__device__ void write(const MixedProduct& p, const Place& place, const Sums& sums) {
  const int64_t strip = place.output + sums.strip * kMixedStrip;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = place.row + sums.row(i, half);
      if (row >= p.rows) continue;
#pragma unroll
      for (int o = 0; o < Sums::kOuts; o += 4) {
        const int64_t output = strip + sums.column(o), column = place.slab.column + output;
        if (output >= place.slab.outs) continue;
        const float* v = sums.all[i][half] + o;
        store4(p.out, row * p.outs + column, finished(p, make_float4(v[0], v[1], v[2], v[3]), row, column));
      }
    }
}

__global__ void __launch_bounds__(kBlockThreads) multiply_codes(const __grid_constant__ MixedProduct p) {
  extern __shared__ __align__(128) uint8_t bytes[];
  Memory& memory = *reinterpret_cast<Memory*>(bytes);
  const Place place(p);
  Loader loader(p, place, memory);
  for (int c = 0; c < kStages - 1; ++c) loader.load();
  Sums sums(memory);
  int of_group = 0;
  for (int c = 0; c < loader.chunks; ++c) {
    wait_copies<kStages - 2>();
    __syncthreads();
    loader.load();
    const GroupScales& scales = memory.scales[c / kStagesOfGroup % 2];
    if (of_group == 0) sums.begin_group(scales);
    sums.multiply(memory.stages[c % kStages]);
    if (++of_group == kStagesOfGroup || c == loader.chunks - 1) sums.end_group(scales), of_group = 0;
  }
  write(p, place, sums);
}

}  // namespace

void multiply_mixed(const MixedProduct& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  allow_shared_memory(multiply_codes, sizeof(Memory), "linear");
  unsigned tiles = 0;
  for (int s = 0; s < p.slab_count; ++s) tiles += blocks_for(p.slabs[s].outs, kStrips * kMixedStrip);
  multiply_codes<<<dim3(blocks_for(p.rows, kRows), tiles), kBlockThreads, sizeof(Memory), stream>>>(p);
}

}  // namespace inkstone::cuda
