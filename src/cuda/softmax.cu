// Softmax of bands of scores, for attention by matrix products: a block for each row.
#include "cuda/numbers.cuh"

namespace inkstone::cuda {
namespace {

__device__ float block_max(float x, float* shared) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  for (int i = 0; i < kThreads / kWarp; ++i) x = fmaxf(x, shared[i]);
  return x;
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
  greatest = block_max(nan ? INFINITY : greatest, shared);  // infinity - infinity is NaN again
  float part = 0;
  for (int64_t j = threadIdx.x; j < seen; j += kThreads) part += expf((scores[j] - greatest) * s.factor);
  const float inverse = 1.0f / group_sum<kThreads>(part, shared);
  for (int64_t j = threadIdx.x; j < s.keys; j += kThreads)
    store(s.out, row * s.keys + j, j < seen ? expf((scores[j] - greatest) * s.factor) * inverse : 0.0f);
}

}  // namespace

void softmax(const Softmax& s, cudaStream_t stream) {
  if (s.batch * s.queries > 0) softmax_rows<<<static_cast<unsigned>(s.batch * s.queries), kThreads, 0, stream>>>(s);
}

}  // namespace inkstone::cuda
