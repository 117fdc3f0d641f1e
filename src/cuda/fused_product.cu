// Products together with what follows them: see FusedProduct.
#include <algorithm>

#include "cuda/row.cuh"
#include "cuda/tile_product.cuh"

namespace inkstone::cuda {
namespace {

struct FusedJob {
  TiledProducts tiles;
  FusedProduct parts[kMaxFused];
  Joined joined;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kLaneNumbers = 4;  // neighbouring outputs of a row that a lane holds once they are put together
constexpr int kGroups = 16;      // pairs of eight columns: a lane has four outputs of each
constexpr int kGroupColumns = 16;
constexpr int kHeadGroups = kFusedHeadWidth / kGroupColumns;

__device__ float4 times_plus(const float4& a, const float4& b, const float4& c) {
  return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}
__device__ float4 times(const float4& a, float b) { return make_float4(a.x * b, a.y * b, a.z * b, a.w * b); }
__device__ uint2 packed(const float4& v) { return make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w)); }

/// A lane's sums, put together so that it has four neighbouring outputs of two rows in each group of sixteen.
struct Fours {
  WidestAccumulator& sums;

  /// To be called for a group before its numbers are asked for, by all lanes.
  __device__ void put_together(int group) const {
    const bool odd = threadIdx.x % 2 != 0;
#pragma unroll
    for (int e = 8 * group; e < 8 * group + 4; ++e) {
      const float other = __shfl_xor_sync(kAllLanes, odd ? sums[e] : sums[e + 4], 1);
      (odd ? sums[e] : sums[e + 4]) = other;
    }
  }
  __device__ float4 get(int group, int half) const {
    const int e = 8 * group + 2 * half;
    return make_float4(sums[e], sums[e + 1], sums[e + 4], sums[e + 5]);
  }
  __device__ void set(int group, int half, const float4& v) const {
    const int e = 8 * group + 2 * half;
    sums[e] = v.x, sums[e + 1] = v.y, sums[e + 4] = v.z, sums[e + 5] = v.w;
  }
};

/// What lanes of all kinds have: two rows, the second eight below the first, and a column of each group.
template <DType kType>
struct FusedLane {
  const FusedProduct& p;
  int row, out, column;  // row and out of all outputs, column of the tile
  float2 row_scale = make_float2(1, 1);
  LaneColumns columns = {{make_float2(1, 1), make_float2(0, 0), make_float2(1, 1)}};

  __device__ FusedLane(const FusedProduct& product, int first_row, int first_out)
      : p(product),
        row(first_row + static_cast<int>(threadIdx.x) % kGroup / kWarp * 16 +
            static_cast<int>(threadIdx.x) % kWarp / 4),
        out(first_out),
        column(static_cast<int>(threadIdx.x) % 2 * 8 + static_cast<int>(threadIdx.x) % 4 / 2 * kLaneNumbers) {
    const int held = held_column();
    if (held < p.outs && p.bias != nullptr)
      columns.vectors[1] = __bfloat1622float2(
          *reinterpret_cast<const __nv_bfloat162*>(static_cast<const __nv_bfloat16*>(p.bias) + held));
    if constexpr (kType == DType::f8_e4m3) {
      if (held < p.outs) columns.vectors[0] = __ldg(reinterpret_cast<const float2*>(p.w_scales + held));
      row_scale = make_float2(__ldg(p.x_scales + inside(0)), __ldg(p.x_scales + inside(1)));
    }
  }

  /// The first of the two of all outputs that it loads for the tile.
  __device__ int held_column() const { return out + 2 * (static_cast<int>(threadIdx.x) % kGroup); }
  __device__ bool has(int half) const { return row + 8 * half < p.rows; }
  /// Its row, or the last one, so that it can be read.
  __device__ int inside(int half) const { return min(row + 8 * half, static_cast<int>(p.rows) - 1); }
  /// Where a row's numbers of its column begin in a matrix of all outputs.
  __device__ int64_t place(int half) const { return inside(half) * p.outs + out + column; }
  /// Whether there are outputs in a group; all lanes agree about two groups together.
  __device__ bool has_group(int group) const { return out + group * kGroupColumns < p.outs; }

  /// Sums become x wᵀ + bias.
  __device__ void scale(const Fours& fours, const TileColumns& tile, int group) const {
    fours.put_together(group);
    const int at = column + group * kGroupColumns;
    const float4 factor = *reinterpret_cast<const float4*>(tile.scale + at);
    const float4 shift = *reinterpret_cast<const float4*>(tile.shift + at);
    fours.set(group, 0, times_plus(times(fours.get(group, 0), row_scale.x), factor, shift));
    fours.set(group, 1, times_plus(times(fours.get(group, 1), row_scale.y), factor, shift));
  }
};

constexpr float kGeluCube = kGeluCubic * kSqrt2OverPi;

/// The tanh form, as exact as what it is rounded to.
__device__ float gelu_fast(float x) {
  const float half = 0.5f * x;
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x * fmaf(kGeluCube, x * x, kSqrt2OverPi)));
  return fmaf(half, y, half);
}
__device__ float4 gelu_fast(const float4& v) {
  return make_float4(gelu_fast(v.x), gelu_fast(v.y), gelu_fast(v.z), gelu_fast(v.w));
}

/// Two codes of GELU times 2 * half_factor. In f16, which has seven bits more than a code.
__device__ uint32_t gelu_codes(float x, float y, float half_factor) {
  const __half2 v = __floats2half2_rn(x, y), half = __floats2half2_rn(x * half_factor, y * half_factor);
  const __half2 inner = __hmul2(v, __hfma2(__hmul2(v, v), __float2half2_rn(kGeluCube), __float2half2_rn(kSqrt2OverPi)));
  __half2 outer;
  asm("tanh.approx.f16x2 %0, %1;"
      : "=r"(reinterpret_cast<uint32_t&>(outer))
      : "r"(reinterpret_cast<const uint32_t&>(inner)));
  return __nv_cvt_halfraw2_to_fp8x2(__hfma2(half, outer, half), __NV_SATFINITE, __NV_E4M3);
}

template <DType kType>
struct ToBf16 : FusedLane<kType> {
  __device__ ToBf16(const FusedJob& job, int part, int first_row, int first_out)
      : FusedLane<kType>(job.parts[part], first_row, first_out) {}

  __device__ void finish(WidestAccumulator& sums, const TileColumns& tile, ProductRing&) const {
    const Fours fours = {sums};
    auto* const to = static_cast<__nv_bfloat16*>(this->p.out.data);
    __nv_bfloat16* const rows[2] = {to + this->place(0), to + this->place(1)};
    const bool gelu = this->p.activation == Activation::gelu_tanh;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      this->scale(fours, tile, group);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float4 v = fours.get(group, half);
        if (gelu) v = gelu_fast(v);
        if (this->has(half) && this->has_group(group))
          *reinterpret_cast<uint2*>(rows[half] + group * kGroupColumns) = packed(v);
      }
    }
  }
};

/// GELU is nearer to zero than its argument, so that the product's bound is one of the result.
template <DType kType>
struct ToCodes : FusedLane<kType> {
  float bound[2];

  __device__ ToCodes(const FusedJob& job, int part, int first_row, int first_out)
      : FusedLane<kType>(job.parts[part], first_row, first_out), bound{this->p.bound[0], this->p.bound[1]} {}

  __device__ void finish(WidestAccumulator& sums, const TileColumns& tile, ProductRing&) const {
    const Fours fours = {sums};
    const bool upper = threadIdx.x % 4 >= 2;
    // Two lanes put their codes of two groups together, so that each has eight neighbours.
    const int shift = upper ? kGroupColumns - kLaneNumbers : 0;
    uint8_t* const rows[2] = {this->p.rounded.codes + this->place(0) + shift,
                              this->p.rounded.codes + this->place(1) + shift};
    float half_factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) half_factor[half] = 0.5f / write_scale(half);
#pragma unroll
    for (int group = 0; group < kGroups; group += 2) {
      this->scale(fours, tile, group);
      this->scale(fours, tile, group + 1);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t first = codes_of(fours.get(group, half), half_factor[half]);
        const uint32_t second = codes_of(fours.get(group + 1, half), half_factor[half]);
        const uint32_t other = __shfl_xor_sync(kAllLanes, upper ? first : second, 2);
        const uint2 eight = upper ? make_uint2(other, second) : make_uint2(first, other);
        if (this->has(half) && this->has_group(group))
          *reinterpret_cast<uint2*>(rows[half] + group * kGroupColumns) = eight;
      }
    }
  }

  __device__ float write_scale(int half) const {
    const float scale =
        fmaxf(fmaf(half == 0 ? this->row_scale.x : this->row_scale.y, bound[0], bound[1]), kLeastMost / kMostCode);
    if (this->out + this->column == 0 && this->has(half)) this->p.rounded.scales[this->inside(half)] = scale;
    return scale;
  }
  __device__ static uint32_t codes_of(const float4& v, float half_factor) {
    return gelu_codes(v.x, v.y, half_factor) | gelu_codes(v.z, v.w, half_factor) << 16;
  }
};

template <DType kType>
struct ToResidual : FusedLane<kType> {
  const float* gates;          // of all vectors
  int64_t tile_gate, gate[2];  // where those begin of the tile's first row, and of its own
  float* to[2];

  __device__ ToResidual(const FusedJob& job, int part, int first_row, int first_out)
      : FusedLane<kType>(job.parts[part], first_row, first_out) {
    const FusedProduct& p = this->p;
    gates = static_cast<const float*>(p.gate.table.data);
    tile_gate = vector_start(p.gate, min(int64_t{first_row}, p.rows - 1), p.outs);
    for (int half = 0; half < 2; ++half) {
      gate[half] = vector_start(p.gate, this->inside(half), p.outs);
      to[half] = static_cast<float*>(p.out.data) + this->place(half);
    }
    if (const int held = this->held_column(); held < p.outs)
      this->columns.vectors[2] = *reinterpret_cast<const float2*>(gates + tile_gate + held);
  }

  __device__ void finish(WidestAccumulator& sums, const TileColumns& tile, ProductRing& ring) const {
    constexpr int kBoxGroups = kResidualOuts / kGroupColumns;
    const Fours fours = {sums};
#pragma unroll
    for (int box = 0; box < kResidualBoxes; ++box) {
      if (box % kStepBoxes == 0) ring.full().wait(ring.phase());
#pragma unroll
      for (int i = 0; i < kBoxGroups; ++i) {
        const int group = box * kBoxGroups + i;
        this->scale(fours, tile, group);
        const uint32_t row = ring.box(box % kStepBoxes) + (this->row % kTileRows) * kStepBytes;
        if (this->has_group(group)) write(fours, tile, group, row, i * kGroupColumns + this->column);
      }
      if (box % kStepBoxes < kStepBoxes - 1 && box < kResidualBoxes - 1) continue;
      __syncwarp();
      ++ring.used;
      ring.release_last();
    }
  }

  /// `row`: where the first of its rows lies in a box of residuals, of which `column` is wanted.
  __device__ void write(const Fours& fours, const TileColumns& tile, int group, uint32_t row, int column) const {
    constexpr int kChunkNumbers = 4, kSwizzledRows = 8;
    const uint32_t chunk = static_cast<uint32_t>(column / kChunkNumbers ^ this->row % kSwizzledRows) * sizeof(float4);
    const int at = this->column + group * kGroupColumns;
    const float4 by = *reinterpret_cast<const float4*>(tile.extra + at);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 residual = load_shared(row + half * kSwizzledRows * kStepBytes + chunk);
      float4 own = by;
      if (gate[half] != tile_gate) own = *reinterpret_cast<const float4*>(gates + gate[half] + this->out + at);
      if (this->has(half))
        *reinterpret_cast<float4*>(to[half] + group * kGroupColumns) =
            times_plus(fours.get(group, half), own, residual);
    }
  }
};

/// Where the numbers of a head go, and what becomes of them.
struct HeadTreatment {
  __nv_bfloat16* to;
  const float* norm;  // of its numbers
  int heads, head;
  bool turns;

  __device__ HeadTreatment(const Joined& joined, const JoinPart& join, int index) {
    const int keys = joined.heads, values = keys + joined.kv_heads;
    const bool is_q = index < keys, is_k = !is_q && index < values;
    const Output& out = is_q ? joined.q : is_k ? joined.k : joined.v;
    to = static_cast<__nv_bfloat16*>(out.data);
    norm = is_q ? join.q_norm : is_k ? join.k_norm : nullptr;
    heads = is_q ? joined.heads : joined.kv_heads;
    head = is_q ? index : is_k ? index - keys : index - values;
    turns = (is_q || is_k) && join.cos_sin != nullptr;
  }
};

/// Two heads of a tile, one after the other; pairs of neighbours turn.
template <DType kType>
struct ToHeads : FusedLane<kType> {
  struct Angles {
    float4 of[kHeadGroups];  // cosines and sines of two pairs each
  };

  const Joined& joined;
  int to_row[2];
  bool turns;

  __device__ ToHeads(const FusedJob& job, int part, int first_row, int first_out)
      : FusedLane<kType>(job.parts[part], first_row, first_out), joined(job.joined) {
    const JoinPart& join = this->p.join;
    for (int half = 0; half < 2; ++half) to_row[half] = static_cast<int>(joined_row(join, this->inside(half)));
    turns = HeadTreatment(joined, join, this->out / kFusedHeadWidth).turns || next_head().turns;
    if (const int held = this->held_column(); held < this->p.outs) {
      const float* norm = HeadTreatment(joined, join, held / kFusedHeadWidth).norm;
      if (norm != nullptr) this->columns.vectors[2] = *reinterpret_cast<const float2*>(norm + held % kFusedHeadWidth);
    }
  }

  __device__ void finish(WidestAccumulator& sums, const TileColumns& tile, ProductRing&) const {
    Angles angles;
    read(angles, 0);
    const Fours fours = {sums};
    float inverse[2][2];
#pragma unroll
    for (int head = 0; head < 2; ++head) {
      float squares[2] = {};
#pragma unroll
      for (int group = head * kHeadGroups; group < (head + 1) * kHeadGroups; ++group) {
        this->scale(fours, tile, group);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float4 v = fours.get(group, half);
          squares[half] += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
        inverse[head][half] = rsqrtf(quad_sum(squares[half]) / kFusedHeadWidth + joined.eps);
    }
    write(fours, tile, {0, 0}, angles, inverse[0][0]);
    write(fours, tile, {1, 0}, angles, inverse[1][0]);
    read(angles, 1);
    write(fours, tile, {0, 1}, angles, inverse[0][1]);
    write(fours, tile, {1, 1}, angles, inverse[1][1]);
  }

  __device__ HeadTreatment next_head() const { return {joined, this->p.join, this->out / kFusedHeadWidth + 1}; }
  __device__ void read(Angles& angles, int half) const {
    if (!turns) return;
    const float* from = this->p.join.cos_sin + int64_t{this->inside(half)} * kFusedHeadWidth + this->column;
#pragma unroll
    for (int i = 0; i < kHeadGroups; ++i)
      angles.of[i] = __ldg(reinterpret_cast<const float4*>(from + i * kGroupColumns));
  }
  /// place: head and half.
  __device__ void write(const Fours& fours, const TileColumns& tile, int2 place, const Angles& angles,
                        float inverse) const {
    const int index = this->out / kFusedHeadWidth + place.x;
    if (!this->has(place.y) || index * kFusedHeadWidth >= this->p.outs) return;
    const HeadTreatment t(joined, this->p.join, index);
    const int column = this->column;
    __nv_bfloat16* const to = t.to + (int64_t{to_row[place.y]} * t.heads + t.head) * kFusedHeadWidth + column;
#pragma unroll
    for (int i = 0; i < kHeadGroups; ++i) {
      const int group = place.x * kHeadGroups + i;
      float4 v = fours.get(group, place.y);
      if (t.norm != nullptr) {
        const float4 by = *reinterpret_cast<const float4*>(tile.extra + column + group * kGroupColumns);
        v = make_float4(v.x * by.x * inverse, v.y * by.y * inverse, v.z * by.z * inverse, v.w * by.w * inverse);
      }
      if (t.turns) {
        const float4& a = angles.of[i];
        v = make_float4(v.x * a.x - v.y * a.y, v.x * a.y + v.y * a.x, v.z * a.z - v.w * a.w, v.z * a.w + v.w * a.z);
      }
      *reinterpret_cast<uint2*>(to + i * kGroupColumns) = packed(v);
    }
  }
};

#else

template <DType kType>
struct ToBf16 {};
template <DType kType>
struct ToCodes {};
template <DType kType>
struct ToResidual {};
template <DType kType>
struct ToHeads {};

#endif

template <DType kType, class Lane>
__global__ void __launch_bounds__(kProductThreads, 1) multiply_fused(const __grid_constant__ FusedJob job) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  multiply_tiles<kType, Lane>(job.tiles, job);
#endif
}

template <DType kType, class Lane>
void launch(const FusedJob& job, cudaStream_t stream) {
  launch_in_pairs(multiply_fused<kType, Lane>, job.tiles.pairs, job, stream);
}

template <DType kType>
void launch(const FusedJob& job, cudaStream_t stream) {
  const FusedProduct& p = job.parts[0];
  if (p.rounded.codes != nullptr) return launch<kType, ToCodes<kType>>(job, stream);
  if (p.join.shift != nullptr) return launch<kType, ToHeads<kType>>(job, stream);
  p.residual.data != nullptr ? launch<kType, ToResidual<kType>>(job, stream)
                             : launch<kType, ToBf16<kType>>(job, stream);
}

/// A block for each row of weights.
__global__ void __launch_bounds__(kThreads)
    bound_rows(float* bound, Rounded weights, const __nv_bfloat16* bias, int64_t depth) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t row = blockIdx.x;
  float squares = 0;
  for (int64_t j = threadIdx.x; j < depth; j += kThreads) {
    __nv_fp8_e4m3 code;
    code.__x = weights.codes[row * depth + j];
    squares += static_cast<float>(code) * static_cast<float>(code);
  }
  const float norm = sqrtf(group_sum<kThreads>(squares, shared) * static_cast<float>(depth)) * weights.scales[row];
  if (threadIdx.x != 0) return;
  const float shift = bias == nullptr ? 0.0f : fabsf(__bfloat162float(bias[row])) / kMostCode;
  atomicMax(reinterpret_cast<int*>(bound), __float_as_int(norm));  // positive numbers are in the order of their bits
  atomicMax(reinterpret_cast<int*>(bound + 1), __float_as_int(shift));
}

}  // namespace

bool suits_fused(const FusedProduct& p) {
  constexpr int64_t kUnit = 16;  // bytes
  const auto aligned = [](const void* data) { return fits(data, kUnit); };
  const bool whole_heads = p.join.shift == nullptr || p.outs % kFusedHeadWidth == 0;
  return p.rows > 0 && p.outs % (2 * kUnit) == 0 && p.depth * static_cast<int64_t>(size_of(p.type)) % kUnit == 0 &&
         whole_heads && (p.gate.table.data == nullptr || p.gate.table.type == DType::f32) && aligned(p.x) &&
         aligned(p.w) && aligned(p.w_scales) && aligned(p.bias) && aligned(p.out.data) && aligned(p.rounded.codes) &&
         aligned(p.residual.data) && aligned(p.gate.table.data) && aligned(p.join.q_norm) && aligned(p.join.k_norm) &&
         aligned(p.join.cos_sin);
}

void fused_products(const FusedProduct* parts, int count, const Joined& joined, cudaStream_t stream) {
  FusedJob job = {{}, {}, joined};
  std::copy_n(parts, count, job.parts);
  if (count > 1 && job.parts[1].rows > job.parts[0].rows) std::swap(job.parts[0], job.parts[1]);  // small tiles last
  job.tiles = tiles_of(job.parts, count);
  parts[0].type == DType::bf16 ? launch<DType::bf16>(job, stream) : launch<DType::f8_e4m3>(job, stream);
}

void bound_product(float* bound, const Rounded& weights, const void* bias, int64_t outs, int64_t depth,
                   cudaStream_t stream) {
  check_cuda(cudaMemsetAsync(bound, 0, 2 * sizeof(float), stream), "rounding weights");
  bound_rows<<<static_cast<unsigned>(outs), kThreads, 0, stream>>>(bound, weights,
                                                                   static_cast<const __nv_bfloat16*>(bias), depth);
}

}  // namespace inkstone::cuda
