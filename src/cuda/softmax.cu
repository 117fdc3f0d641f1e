// Softmax of bands of scores, for attention by matrix products: a block for each row.
#include "cuda/row.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kManyThreads = 1024;

/// Long rows that are seen whole and that the threads can hold: they are read once.
template <int kHeld>
__global__ void __launch_bounds__(kManyThreads) softmax_held_rows(Softmax s) {
  __shared__ float shared[kManyThreads / kWarp];
  const int64_t start = int64_t{blockIdx.x} * s.keys;
  const auto column = [](int i) { return 4 * (i * kManyThreads + static_cast<int>(threadIdx.x)); };
  float4 held[kHeld];
  float greatest = -INFINITY;
  bool nan = false;  // fmaxf drops it
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    held[i] = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
    if (column(i) < s.keys) held[i] = *reinterpret_cast<const float4*>(s.scores + start + column(i));
    greatest = fmaxf(greatest, fmaxf(fmaxf(held[i].x, held[i].y), fmaxf(held[i].z, held[i].w)));
    nan |= isnan(held[i].x) || isnan(held[i].y) || isnan(held[i].z) || isnan(held[i].w);
  }
  greatest = group_max<kManyThreads>(nan ? INFINITY : greatest, shared);  // infinity - infinity is NaN again
  float part = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    for (float* x : {&held[i].x, &held[i].y, &held[i].z, &held[i].w}) *x = expf((*x - greatest) * s.factor);
    part += (held[i].x + held[i].y) + (held[i].z + held[i].w);  // zeros behind the end
  }
  const float inverse = 1.0f / group_sum<kManyThreads>(part, shared);
#pragma unroll
  for (int i = 0; i < kHeld; ++i)
    if (column(i) < s.keys)
      store4(s.out, start + column(i),
             make_float4(held[i].x * inverse, held[i].y * inverse, held[i].z * inverse, held[i].w * inverse));
}

__global__ void __launch_bounds__(kThreads) softmax_rows(Softmax s) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t row = blockIdx.x;
  const int64_t seen = s.first < 0 ? s.keys : min(s.keys, s.first + row % s.queries + 1);
  const float* scores = s.scores + row * s.keys;
  float greatest = -INFINITY;
  bool nan = false;  // fmaxf drops it
  for (int64_t j = threadIdx.x; j < seen; j += kThreads) {
    greatest = fmaxf(greatest, scores[j]);
    nan |= isnan(scores[j]);
  }
  greatest = group_max<kThreads>(nan ? INFINITY : greatest, shared);  // as above
  float part = 0;
  for (int64_t j = threadIdx.x; j < seen; j += kThreads) part += expf((scores[j] - greatest) * s.factor);
  const float inverse = 1.0f / group_sum<kThreads>(part, shared);
  for (int64_t j = threadIdx.x; j < s.keys; j += kThreads)
    store(s.out, row * s.keys + j, j < seen ? expf((scores[j] - greatest) * s.factor) * inverse : 0.0f);
}

}  // namespace

void softmax(const Softmax& s, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(s.batch * s.queries);
  constexpr int64_t kOfRound = 4 * kManyThreads;
  const bool by_fours = s.first < 0 && fours(s.scores, DType::f32, s.keys) && fours(s.out, s.keys);
  if (rows == 0) return;
  if (by_fours && s.keys > kOfRound && s.keys <= 4 * kOfRound) {
    softmax_held_rows<4><<<rows, kManyThreads, 0, stream>>>(s);
  } else if (by_fours && s.keys > kOfRound && s.keys <= 8 * kOfRound) {
    softmax_held_rows<8><<<rows, kManyThreads, 0, stream>>>(s);
  } else {
    softmax_rows<<<rows, kThreads, 0, stream>>>(s);
  }
}

}  // namespace inkstone::cuda
