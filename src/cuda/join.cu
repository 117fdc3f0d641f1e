// join_qkv: a warp for each head of each row, or, where rows can be read four numbers at a time, a block for each row.
#include "cuda/numbers.cuh"

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

/// Where a row goes.
__device__ int64_t joined_row(const JoinPart& part, int64_t row) {
  int32_t s = 0;
  while (s + 1 < part.sequences.count && row >= part.sequences.begin[s + 1]) ++s;
  return row + part.shift[s];
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

/// A lane's four numbers of every head of a row: number' = number * cos + partner * sin.
struct Rotation {
  float4 cos = make_float4(1, 1, 1, 1), sin = make_float4(0, 0, 0, 0);
  int partner = -1;  // the lane that holds them; negative: neighbours are partners

  __device__ Rotation(const JoinPart& part, int64_t row, int32_t width, int lane) {
    if (part.cos_sin == nullptr || 4 * lane >= width) return;
    const auto* factors = reinterpret_cast<const float4*>(part.cos_sin + row * width);  // cos, sin, cos, sin
    if (!part.halves) {
      const float4 f = factors[lane];
      cos = make_float4(f.x, f.x, f.z, f.z);
      sin = make_float4(-f.y, f.y, -f.w, f.w);
      return;
    }
    const int half = width / 8;  // lanes
    const bool first = lane < half;
    partner = first ? lane + half : lane - half;
    const float4 f = factors[2 * (lane % half)], g = factors[2 * (lane % half) + 1];
    const float sign = first ? -1.0f : 1.0f;
    cos = make_float4(f.x, f.z, g.x, g.z);
    sin = make_float4(sign * f.y, sign * f.w, sign * g.y, sign * g.w);
  }

  __device__ float4 apply(const float4& v, bool halves) const {
    float4 p = make_float4(v.y, v.x, v.w, v.z);
    if (halves)
      p = make_float4(__shfl_sync(kAllLanes, v.x, partner), __shfl_sync(kAllLanes, v.y, partner),
                      __shfl_sync(kAllLanes, v.z, partner), __shfl_sync(kAllLanes, v.w, partner));
    return make_float4(v.x * cos.x + p.x * sin.x, v.y * cos.y + p.y * sin.y, v.z * cos.z + p.z * sin.z,
                       v.w * cos.w + p.w * sin.w);
  }
};

__device__ float4 times(const float4& a, const float4& b, float c) {
  return make_float4(a.x * b.x * c, a.y * b.y * c, a.z * b.z * c, a.w * b.w * c);
}

/// Two parts one after the other.
struct JoinPair {
  JoinPart first, second;
};

/// A block for each row, whose warps share the heads; up to four numbers a lane.
__global__ void __launch_bounds__(kThreads, 4) join_rows(Joined out, const __grid_constant__ JoinPair pair) {
  const bool second = blockIdx.x >= pair.first.rows;
  const JoinPart& part = second ? pair.second : pair.first;
  const int64_t row = blockIdx.x - (second ? pair.first.rows : 0), joined = joined_row(part, row);
  const int lane = threadIdx.x % kWarp;
  const bool active = 4 * lane < out.width;
  const Rotation rotation(part, row, out.width, lane);
  const float4 zeros = make_float4(0, 0, 0, 0), ones = make_float4(1, 1, 1, 1);
  const auto norm = [&](const float* weight) {
    return active && weight != nullptr ? reinterpret_cast<const float4*>(weight)[lane] : ones;
  };
  const float4 q_norm = norm(part.q_norm), k_norm = norm(part.k_norm);
  const int32_t keys = out.heads, values = out.heads + out.kv_heads, all = values + out.kv_heads;
  constexpr int kWarps = kThreads / kWarp, kBatch = 3;  // heads that are read before one is written
  for (int32_t first = threadIdx.x / kWarp; first < all; first += kBatch * kWarps) {
    float4 batch[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t head = first + i * kWarps;
      batch[i] = active && head < all ? load4(part.qkv, (row * all + head) * out.width + 4 * lane) : zeros;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t head = first + i * kWarps;
      if (head >= all) break;
      float4 v = batch[i];
      if (head < values) {
        if ((head < keys ? part.q_norm : part.k_norm) != nullptr) {
          const float squares = group_sum<kWarp>(v.x * v.x + v.y * v.y + (v.z * v.z + v.w * v.w), nullptr);
          v = times(v, head < keys ? q_norm : k_norm, 1.0f / sqrtf(squares / static_cast<float>(out.width) + out.eps));
        }
        if (part.cos_sin != nullptr) v = rotation.apply(v, part.halves);
      }
      if (!active) continue;
      Output to = out.q;
      int64_t to_row = joined * out.heads + head;
      if (head >= keys) {
        to = head < values ? out.k : out.v;
        to_row = joined * out.kv_heads + (head - keys) % out.kv_heads;
      }
      store4(to, to_row * out.width + 4 * lane, v);
    }
  }
}

bool by_fours(const Joined& out, const JoinPart& part) {
  const auto aligned = [](const float* vector) { return reinterpret_cast<uintptr_t>(vector) % sizeof(float4) == 0; };
  return out.width % 8 == 0 && out.width <= 4 * kWarp && fours(part.qkv, out.width) && fours(out.q, out.width) &&
         fours(out.k, out.width) && fours(out.v, out.width) && aligned(part.q_norm) && aligned(part.k_norm) &&
         aligned(part.cos_sin);
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
    if (i + 1 < count && by_fours(out, parts[i + 1])) pair.second = parts[++i];
    const auto rows = static_cast<unsigned>(pair.first.rows + pair.second.rows);
    if (rows > 0) join_rows<<<rows, kThreads, 0, stream>>>(out, pair);
  }
}

}  // namespace inkstone::cuda
