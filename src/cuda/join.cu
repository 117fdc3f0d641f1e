// join_qkv: a warp for each head of each row, or, where rows can be read four numbers at a time, a block for each row.
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"

namespace inkstone::cuda {
namespace {

/// The two numbers of a pair that a rotation turns; of an odd width the last pair has only one.
struct Pair {
  int32_t first, second;
};

__device__ Pair pair_of(int32_t k, int32_t width, bool halves) {
  return halves ? Pair{k, k + width / 2} : Pair{2 * k, 2 * k + 1};
}

__device__ float2 read(const Numbers& x, int64_t start, const Pair& p, int32_t width) {
  return make_float2(load(x, start + p.first), p.second < width ? load(x, start + p.second) : 0.0f);
}

/// What is done to one head. Lanes take the pairs lane, lane + 32, ...
struct Treatment {
  const float* norm;     // (c)
  const float* cos_sin;  // (c / 2, 2) of the row
  bool halves;
  float eps;
};

__device__ void treat(const Output& out, int64_t to, const Numbers& x, int64_t from, const Treatment& t,
                      int32_t width) {
  const int lane = threadIdx.x % kWarp;
  const int32_t pairs = (width + 1) / 2;
  float inverse = 1;
  if (t.norm != nullptr) {
    float squares = 0;
    for (int32_t k = lane; k < pairs; k += kWarp) {
      const float2 v = read(x, from, pair_of(k, width, t.halves), width);
      squares += v.x * v.x + v.y * v.y;
    }
    inverse = 1.0f / sqrtf(group_sum<kWarp>(squares, nullptr) / static_cast<float>(width) + t.eps);
  }
  for (int32_t k = lane; k < pairs; k += kWarp) {
    const Pair p = pair_of(k, width, t.halves);
    float2 v = read(x, from, p, width);
    if (t.norm != nullptr) {
      v.x *= inverse * t.norm[p.first];
      if (p.second < width) v.y *= inverse * t.norm[p.second];
    }
    if (t.cos_sin != nullptr) {
      const float cos = t.cos_sin[2 * k], sin = t.cos_sin[2 * k + 1];
      v = make_float2(v.x * cos - v.y * sin, v.x * sin + v.y * cos);
    }
    store(out, to + p.first, v.x);
    if (p.second < width) store(out, to + p.second, v.y);
  }
}

__global__ void __launch_bounds__(kThreads) join_heads(Joined out, JoinPart part) {
  const int32_t all_heads = out.heads + 2 * out.kv_heads;
  const int64_t index = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
  const int64_t row = index / all_heads;
  if (row >= part.rows) return;
  const auto head = static_cast<int32_t>(index % all_heads);
  const int64_t joined = joined_row(part, row);
  const int64_t from = index * out.width;
  const float* cos_sin = part.cos_sin == nullptr ? nullptr : part.cos_sin + row * (out.width / 2) * 2;
  if (head < out.heads) {
    const int64_t to = (joined * out.heads + head) * out.width;
    treat(out.q, to, part.qkv, from, {part.q_norm, cos_sin, part.halves, out.eps}, out.width);
    return;
  }
  const bool is_k = head < out.heads + out.kv_heads;
  const int64_t to = (joined * out.kv_heads + (head - out.heads) % out.kv_heads) * out.width;
  const Treatment treatment = is_k ? Treatment{part.k_norm, cos_sin, part.halves, out.eps} : Treatment{};
  treat(is_k ? out.k : out.v, to, part.qkv, from, treatment, out.width);
}

/// A lane's neighbouring numbers of a head: four of any type, or eight of bf16, which leaves room for twice the heads
/// in a warp.
template <int kCount>
struct Piece;

template <>
struct Piece<4> {
  float4 held = make_float4(0, 0, 0, 0);

  __device__ void load(const Numbers& x, int64_t i) { held = load4(x, i); }
  __device__ void unpack(float (&v)[4]) const { v[0] = held.x, v[1] = held.y, v[2] = held.z, v[3] = held.w; }
  __device__ static void store(const Output& out, int64_t i, const float (&v)[4]) {
    store4(out, i, make_float4(v[0], v[1], v[2], v[3]));
  }
};

template <>
struct Piece<8> {
  uint4 held = make_uint4(0, 0, 0, 0);

  __device__ void load(const Numbers& x, int64_t i) {
    held = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(x.data) + i);
  }
  __device__ void unpack(float (&v)[8]) const {
    const uint32_t words[4] = {held.x, held.y, held.z, held.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
  __device__ static void store(const Output& out, int64_t i, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(out.data) + i) =
        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
  }
};

/// How the numbers of a lane are rotated in every head of a row: number' = number * cos + partner * sin.
template <int kCount>
struct Rotation {
  float cos[kCount], sin[kCount];
  int partner = 0;  // the lane that holds them, unless neighbours are partners

  __device__ Rotation(const JoinPart& part, int64_t row, int32_t width, int lane) {
    const int lanes = width / kCount, half = lanes / 2;
    const bool first = lane < half;
    partner = first ? lane + half : lane - half;
    const bool turns = part.cos_sin != nullptr && lane < lanes;
    const int32_t pair = part.halves ? kCount * (first ? lane : partner) : kCount / 2 * lane;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float* factors = part.cos_sin + row * width + 2 * (pair + (part.halves ? i : i / 2));
      const bool minus = part.halves ? first : i % 2 == 0;
      cos[i] = turns ? factors[0] : 1.0f;
      sin[i] = turns ? (minus ? -factors[1] : factors[1]) : 0.0f;
    }
  }

  /// By all lanes of a warp.
  __device__ void apply(float (&v)[kCount], bool halves, int group) const {
    float p[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) p[i] = halves ? __shfl_sync(kAllLanes, v[i], partner, group) : v[i ^ 1];
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = v[i] * cos[i] + p[i] * sin[i];
  }
};

/// Two parts one after the other.
struct JoinPair {
  JoinPart first, second;
};

/// A block for each row, of which groups of lanes take a head at a time, of up to 4 * kWarp numbers.
template <int kCount>
__global__ void __launch_bounds__(kThreads, 3)
    join_rows(const __grid_constant__ Joined out, const __grid_constant__ JoinPair pair) {
  constexpr int kGroup = 4 * kWarp / kCount, kGroups = kThreads / kGroup;
  constexpr int kBatch = 3;  // heads that are read before one is written
  const bool second = blockIdx.x >= pair.first.rows;
  const JoinPart& part = second ? pair.second : pair.first;
  const int64_t row = blockIdx.x - (second ? pair.first.rows : 0), joined = joined_row(part, row);
  const int lane = threadIdx.x % kGroup, group = threadIdx.x / kGroup, column = kCount * lane;
  const bool active = column < out.width;
  const Rotation<kCount> rotation(part, row, out.width, lane);
  float q_norm[kCount], k_norm[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    q_norm[i] = active && part.q_norm != nullptr ? part.q_norm[column + i] : 1.0f;
    k_norm[i] = active && part.k_norm != nullptr ? part.k_norm[column + i] : 1.0f;
  }
  const int32_t keys = out.heads, values = out.heads + out.kv_heads, all = values + out.kv_heads;
  const int64_t from = row * all * out.width + column;
  for (int32_t base = 0; base < all; base += kBatch * kGroups) {
    Piece<kCount> batch[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t head = base + i * kGroups + group;
      if (active && head < all) batch[i].load(part.qkv, from + head * out.width);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t head = base + i * kGroups + group;
      if (head - group % (kWarp / kGroup) >= all) break;  // of the whole warp
      float v[kCount];
      batch[i].unpack(v);
      float squares = 0;
#pragma unroll
      for (const float x : v) squares += x * x;
#pragma unroll
      for (int offset = kGroup / 2; offset > 0; offset /= 2) squares += __shfl_xor_sync(kAllLanes, squares, offset);
      const bool is_q = head < keys;
      if (head < values && (is_q ? part.q_norm : part.k_norm) != nullptr) {
        const float inverse = 1.0f / sqrtf(squares / static_cast<float>(out.width) + out.eps);
#pragma unroll
        for (int e = 0; e < kCount; ++e) v[e] *= (is_q ? q_norm[e] : k_norm[e]) * inverse;
      }
      float turned[kCount];
#pragma unroll
      for (int e = 0; e < kCount; ++e) turned[e] = v[e];
      if (part.cos_sin != nullptr) rotation.apply(turned, part.halves, kGroup);
      if (!active || head >= all) continue;
      if (head < values) {
        const int64_t to = is_q ? joined * out.heads + head : joined * out.kv_heads + (head - keys);
        Piece<kCount>::store(is_q ? out.q : out.k, to * out.width + column, turned);
      } else {
        Piece<kCount>::store(out.v, (joined * out.kv_heads + (head - values)) * out.width + column, v);
      }
    }
  }
}

bool by_fours(const Joined& out, const JoinPart& part) {
  const auto aligned = [](const float* vector) { return fits(vector, sizeof(float4)); };
  return out.width % 8 == 0 && out.width <= 4 * kWarp && fours(part.qkv, out.width) && fours(out.q, out.width) &&
         fours(out.k, out.width) && fours(out.v, out.width) && aligned(part.q_norm) && aligned(part.k_norm) &&
         aligned(part.cos_sin);
}

/// Whether all is bf16 and may be read and written eight numbers at a time.
bool by_eights(const Joined& out, const JoinPart& part) {
  const auto suits = [](const void* data, DType type) { return type == DType::bf16 && fits(data, sizeof(uint4)); };
  return out.width % 16 == 0 && suits(part.qkv.data, part.qkv.type) && suits(out.q.data, out.q.type) &&
         suits(out.k.data, out.k.type) && suits(out.v.data, out.v.type);
}

}  // namespace

void join_qkv(const Joined& out, const JoinPart* parts, int count, cudaStream_t stream) {
  for (int i = 0; i < count; ++i) {
    const JoinPart& part = parts[i];
    if (!by_fours(out, part)) {
      const int64_t warps = part.rows * (out.heads + 2 * out.kv_heads);
      if (warps > 0) join_heads<<<blocks_for(warps * kWarp), kThreads, 0, stream>>>(out, part);
      continue;
    }
    JoinPair pair = {part, {}};
    const bool eights = by_eights(out, part);
    if (i + 1 < count && by_fours(out, parts[i + 1]) && by_eights(out, parts[i + 1]) == eights)
      pair.second = parts[++i];
    const auto rows = static_cast<unsigned>(pair.first.rows + pair.second.rows);
    if (rows > 0) (eights ? join_rows<8> : join_rows<4>)<<<rows, kThreads, 0, stream>>>(out, pair);
  }
}

}  // namespace inkstone::cuda
