// Norms over rows. A row belongs to a warp or, if it is long, to a block. Rows of up to kHeld numbers a thread stay in
// registers between the passes; longer or unaligned ones are read again.
#include "cuda/numbers.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kHeld = 4;  // float4 of a row that a thread holds

/// What a row is multiplied with or shifted by; zeros without data.
struct Vector {
  Numbers numbers;
  int64_t start;

  __device__ float load_at(int64_t j) const { return numbers.data == nullptr ? 0.0f : load(numbers, start + j); }
  __device__ float4 load4_at(int64_t j) const {
    return numbers.data == nullptr ? make_float4(0, 0, 0, 0) : load4(numbers, start + j);
  }
};

/// One row's numbers as a group of threads sees them.
template <int kGroup, bool kFours>
struct Row {
  const Numbers& x;
  int64_t start, d;
  float4 held[kHeld];

  __device__ Row(const Numbers& numbers, int64_t row, int64_t width) : x(numbers), start(row * width), d(width) {
    if constexpr (kFours) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) held[i] = column(i) < d ? load4(x, start + column(i)) : make_float4(0, 0, 0, 0);
    }
  }

  __device__ static int64_t column(int i) { return 4 * (i * kGroup + static_cast<int>(threadIdx.x) % kGroup); }

  /// Sum of f(number) over the row.
  template <class F>
  __device__ float sum(float* shared, const F& f) const {
    float part = 0;
    if constexpr (kFours) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (column(i) < d) part += (f(held[i].x) + f(held[i].y)) + (f(held[i].z) + f(held[i].w));
    } else {
      for (int64_t j = threadIdx.x % kGroup; j < d; j += kGroup) part += f(load(x, start + j));
    }
    return group_sum<kGroup>(part, shared);
  }

  /// Writes f(number, a, b) for the whole row, with the numbers of two vectors at the same column.
  template <class F>
  __device__ void write(const Output& out, const Vector& a, const Vector& b, const F& f) const {
    if constexpr (kFours) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int64_t j = column(i);
        if (j >= d) continue;
        const float4 v = held[i], p = a.load4_at(j), q = b.load4_at(j);
        store4(out, start + j, make_float4(f(v.x, p.x, q.x), f(v.y, p.y, q.y), f(v.z, p.z, q.z), f(v.w, p.w, q.w)));
      }
    } else {
      for (int64_t j = threadIdx.x % kGroup; j < d; j += kGroup)
        store(out, start + j, f(load(x, start + j), a.load_at(j), b.load_at(j)));
    }
  }
};

template <int kGroup, bool kFours>
__global__ void __launch_bounds__(kThreads) rms_norm_rows(RmsNorm norm, int64_t rows, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t index = int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
  if (index >= rows) return;  // whole warps, or the whole block
  const Row<kGroup, kFours> row(norm.x, index, d);
  const float squares = row.sum(shared, [](float x) { return x * x; });
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(d) + norm.eps);
  row.write(norm.out, {{norm.weight, DType::f32}, 0}, {},
            [&](float x, float weight, float) { return activate(x * inverse * weight, norm.activation); });
}

template <int kGroup, bool kFours>
__global__ void __launch_bounds__(kThreads) modulate_rows(ModulatedNorm norm, int64_t rows, int64_t d) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t index = int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
  if (index >= rows) return;
  const Row<kGroup, kFours> row(norm.x, index, d);
  const float mean = row.sum(shared, [](float x) { return x; }) / static_cast<float>(d);
  const float squares = row.sum(shared, [mean](float x) { return (x - mean) * (x - mean); });
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(d) + norm.eps);
  const Vector scale = {norm.scale.table, vector_start(norm.scale, index, d)};
  const Vector shift = {norm.shift.table, vector_start(norm.shift, index, d)};
  row.write(norm.out, scale, shift,
            [&](float x, float by, float add) { return (x - mean) * inverse * (1.0f + by) + add; });
}

/// Calls launch(kernel's group, whether by fours) for rows of this width.
template <class Launch>
void by_width(int64_t d, bool fours, const Launch& launch) {
  constexpr int64_t kLongest = int64_t{4} * kHeld;
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
  by_width(d, fours(norm.x, d) && fours(norm.out, d) && fours(norm.weight, DType::f32, d),
           [&]<int kGroup, bool kFours>() {
             rms_norm_rows<kGroup, kFours><<<blocks_for(rows, kThreads / kGroup), kThreads, 0, stream>>>(norm, rows, d);
           });
}

void layer_norm_modulate(const ModulatedNorm& norm, int64_t rows, int64_t d, cudaStream_t stream) {
  if (rows == 0) return;
  const bool by_fours =
      fours(norm.x, d) && fours(norm.out, d) && fours(norm.scale.table, d) && fours(norm.shift.table, d);
  by_width(d, by_fours, [&]<int kGroup, bool kFours>() {
    modulate_rows<kGroup, kFours><<<blocks_for(rows, kThreads / kGroup), kThreads, 0, stream>>>(norm, rows, d);
  });
}

}  // namespace inkstone::cuda
