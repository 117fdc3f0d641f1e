// Norms over rows. A row belongs to a warp, to a part of one if it is short or, if it is long, to a block. Rows that
// its threads can hold stay in registers between the passes; longer or unaligned ones are read again.
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

template <int kGroup, bool kFours>
__global__ void __launch_bounds__(kThreads) rms_norm_rows(RmsNorm norm, int64_t rows, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t index = group_index<kGroup>();
  if (kGroup >= kWarp && index >= rows) return;  // whole warps, or the whole block
  Row<kGroup, kFours> row(norm.x, min(index, rows - 1), d);
  const float squares = row.sum(shared, [](float x) { return x * x; });
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(d) + norm.eps);
  if (index >= rows) return;
  row.write(norm.out, Vector{{norm.weight, DType::f32}, 0}, Vector{},
            [&](float x, float weight, float) { return activate(x * inverse * weight, norm.activation); });
}

/// Room for what the warps of a block find: two sums and what is greatest.
using Shared = float[3][kThreads / kWarp];

/// What makes a row's numbers (x - mean) * inverse * (1 + scale) + shift.
struct Standard {
  float mean, inverse;

  template <class Row>
  __device__ Standard(const Row& row, float eps, Shared& shared) {
    const auto d = static_cast<float>(row.d);
    mean = row.sum(shared[0], [](float x) { return x; }) / d;
    const float squares = row.sum(shared[1], [m = mean](float x) { return (x - m) * (x - m); });
    inverse = 1.0f / sqrtf(squares / d + eps);
  }
  __device__ float operator()(float x, float by, float add) const { return (x - mean) * inverse * (1.0f + by) + add; }
};

/// Two parts one after the other.
struct NormPair {
  ModulatedNorm first, second;
};

constexpr int kLongest = 16;  // numbers that a thread holds

/// Of residual streams of f32 up to this width a thread holds less, so that registers allow as many blocks on a
/// multiprocessor as it has threads for: rows of some are on their way while others sum theirs.
constexpr int kStreamLongest = 12;
constexpr int64_t kStreamWidth = int64_t{kStreamLongest} * kThreads;
#if defined(__CUDA_ARCH__) && \
    (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
constexpr int kThreadsOfProcessor = 1536;
#else
constexpr int kThreadsOfProcessor = 2048;
#endif

template <int kGroup, bool kFours, bool kRounds, bool kStream = false>
__global__ void __launch_bounds__(kThreads, kStream ? kThreadsOfProcessor / kThreads : 1)
    modulate_rows(const __grid_constant__ NormPair pair) {
  __shared__ Shared shared;
  int64_t index = group_index<kGroup>();
  const bool second = index >= pair.first.rows;
  const ModulatedNorm& norm = second ? pair.second : pair.first;
  if (second) index -= pair.first.rows;
  if (index >= norm.rows) return;  // whole warps, or the whole block
  Row<kGroup, kFours, (kStream ? kStreamLongest : kLongest) / 4, kStream> row(norm.x, index, norm.width);
  const auto vector = [&](const RowVectors& v) {
    const int64_t start = vector_start(v, index, norm.width);
    if constexpr (kStream)
      return PlainVector{static_cast<const float*>(v.table.data) + start};
    else
      return Vector{v.table, start};
  };
  const auto scale = vector(norm.scale), shift = vector(norm.shift);
  const Standard standard(row, norm.eps, shared);
  if constexpr (kRounds) {
    row.change(scale, shift, standard);
    row.round(norm.rounded, index, shared[2]);
  } else {
    row.write(norm.out, scale, shift, standard);
  }
}

bool by_fours(const ModulatedNorm& norm) {
  const int64_t d = norm.width;
  return fours(norm.x, d) && fours(norm.out, d) && fours(norm.scale.table, d) && fours(norm.shift.table, d);
}

/// Whether it suits a block for each row of f32 with vectors of f32.
bool is_stream(const ModulatedNorm& norm) {
  const auto is_f32 = [](const Numbers& x) { return x.type == DType::f32; };
  return by_fours(norm) && is_f32(norm.x) && is_f32(norm.scale.table) && is_f32(norm.shift.table) &&
         norm.width > kLongest * kWarp && norm.width <= kStreamWidth;
}

bool is_rounded(const ModulatedNorm& norm) { return norm.rounded.codes != nullptr; }

bool alike(const ModulatedNorm& a, const ModulatedNorm& b) {
  return a.width == b.width && by_fours(a) == by_fours(b) && is_stream(a) == is_stream(b) &&
         is_rounded(a) == is_rounded(b);
}

/// Calls launch(kernel's group, whether by fours) for rows of this width.
template <class Launch>
void by_width(int64_t d, bool fours, const Launch& launch) {
  if (d <= kLongest * kWarp) {
    fours ? launch.template operator()<kWarp, true>() : launch.template operator()<kWarp, false>();
  } else {
    fours&& d <= kLongest* kThreads ? launch.template operator()<kThreads, true>()
                                    : launch.template operator()<kThreads, false>();
  }
}

}  // namespace

void rms_norm(const RmsNorm& norm, int64_t rows, int64_t d, cudaStream_t stream) {
  if (rows == 0) return;
  const auto launch = [&]<int kGroup, bool kFours>() {
    rms_norm_rows<kGroup, kFours><<<blocks_for(rows, kThreads / kGroup), kThreads, 0, stream>>>(norm, rows, d);
  };
  const bool by_fours = fours(norm.x, d) && fours(norm.out, d) && fours(norm.weight, DType::f32, d);
  if (by_fours && d <= kLongest * kWarp / 4) {  // a pixel's channels: several rows in a warp, more of them on their way
    launch.template operator()<kWarp / 4, true>();
  } else if (by_fours && d <= kLongest * kWarp / 2) {
    launch.template operator()<kWarp / 2, true>();
  } else {
    by_width(d, by_fours, launch);
  }
}

void layer_norm_modulate(const ModulatedNorm* parts, int count, cudaStream_t stream) {
  for (int i = 0; i < count; ++i) {
    NormPair pair = {parts[i], {}};
    if (i + 1 < count && alike(parts[i], parts[i + 1])) pair.second = parts[++i];
    const int64_t rows = pair.first.rows + pair.second.rows;
    if (rows == 0) continue;
    const auto launch = [&]<int kGroup, bool kFours, bool kRounds, bool kStream = false>() {
      modulate_rows<kGroup, kFours, kRounds, kStream>
          <<<blocks_for(rows, kThreads / kGroup), kThreads, 0, stream>>>(pair);
    };
    if (is_stream(pair.first)) {
      is_rounded(pair.first) ? launch.template operator()<kThreads, true, true, true>()
                             : launch.template operator()<kThreads, true, false, true>();
    } else if (is_rounded(pair.first)) {
      launch.template operator()<kThreads, true, true>();
    } else {
      by_width(pair.first.width, by_fours(pair.first),
               [&]<int kGroup, bool kFours>() { launch.template operator()<kGroup, kFours, false>(); });
    }
  }
}

}  // namespace inkstone::cuda
