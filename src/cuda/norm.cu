// Norms over rows. A row belongs to a warp, to a part of one if it is short or, if it is long, to a block. Rows that
// its threads can hold stay in registers between the passes; longer or unaligned ones are read again.
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

template <int kGroup, bool kFours>
__global__ void __launch_bounds__(kThreads) rms_norm_rows(RmsNorm norm, int64_t rows, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t index = int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
  if (kGroup >= kWarp && index >= rows) return;  // whole warps, or the whole block
  Row<kGroup, kFours> row(norm.x, min(index, rows - 1), d);
  const float squares = row.sum(shared, [](float x) { return x * x; });
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(d) + norm.eps);
  if (index >= rows) return;
  row.write(norm.out, {{norm.weight, DType::f32}, 0}, {},
            [&](float x, float weight, float) { return activate(x * inverse * weight, norm.activation); });
}

/// What makes a row's numbers (x - mean) * inverse * (1 + scale) + shift.
struct Standard {
  float mean, inverse;

  template <class Row>
  __device__ Standard(const Row& row, float eps, float* shared) {
    const auto d = static_cast<float>(row.d);
    mean = row.sum(shared, [](float x) { return x; }) / d;
    const float squares = row.sum(shared, [m = mean](float x) { return (x - m) * (x - m); });
    inverse = 1.0f / sqrtf(squares / d + eps);
  }
  __device__ float operator()(float x, float by, float add) const { return (x - mean) * inverse * (1.0f + by) + add; }
};

/// Two parts one after the other.
struct NormPair {
  ModulatedNorm first, second;
};

template <int kGroup, bool kFours, bool kRounds>
__global__ void __launch_bounds__(kThreads) modulate_rows(const __grid_constant__ NormPair pair) {
  __shared__ float shared[kThreads / kWarp];
  int64_t index = int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
  const bool second = index >= pair.first.rows;
  const ModulatedNorm& norm = second ? pair.second : pair.first;
  if (second) index -= pair.first.rows;
  if (index >= norm.rows) return;  // whole warps, or the whole block
  Row<kGroup, kFours> row(norm.x, index, norm.width);
  const Vector scale = {norm.scale.table, vector_start(norm.scale, index, norm.width)};
  const Vector shift = {norm.shift.table, vector_start(norm.shift, index, norm.width)};
  const Standard standard(row, norm.eps, shared);
  if constexpr (kRounds) {
    row.change(scale, shift, standard);
    row.round(norm.rounded, index, shared);
  } else {
    row.write(norm.out, scale, shift, standard);
  }
}

bool by_fours(const ModulatedNorm& norm) {
  const int64_t d = norm.width;
  return fours(norm.x, d) && fours(norm.out, d) && fours(norm.scale.table, d) && fours(norm.shift.table, d);
}

bool is_rounded(const ModulatedNorm& norm) { return norm.rounded.codes != nullptr; }

bool alike(const ModulatedNorm& a, const ModulatedNorm& b) {
  return a.width == b.width && by_fours(a) == by_fours(b) && is_rounded(a) == is_rounded(b);
}

constexpr int64_t kLongest = 16;  // numbers that a thread holds

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
    const auto launch = [&]<int kGroup, bool kFours, bool kRounds>() {
      modulate_rows<kGroup, kFours, kRounds><<<blocks_for(rows, kThreads / kGroup), kThreads, 0, stream>>>(pair);
    };
    if (is_rounded(pair.first)) {
      launch.template operator()<kThreads, true, true>();
    } else {
      by_width(pair.first.width, by_fours(pair.first),
               [&]<int kGroup, bool kFours>() { launch.template operator()<kGroup, kFours, false>(); });
    }
  }
}

}  // namespace inkstone::cuda
