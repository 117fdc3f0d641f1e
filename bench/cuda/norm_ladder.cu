// LayerNorm with modulation at full size, ahead of a product in FP8: what rounding costs apart and in the same pass.
//
// Reference: f64. Versions: the engine's op, f32 to bf16; a pass that rounds its result with a scale a token;
// both in one kernel; the engine's op where it rounds.
#include <cmath>
#include <cstdio>
#include <vector>

#include "cuda/launch.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using inkstone::DType;

constexpr int kWidth = 3072, kParts = kWidth / (kThreads * kLaneNumbers);
constexpr float kEps = 1e-6f;
constexpr double kMostOfCodes = 3e-2, kMostOfBf16 = 3e-3;  // e4m3 has three bits behind the point, bf16 seven

__device__ float block_sum(float x) {
  __shared__ float shared[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  __syncthreads();  // readers of an earlier sum are done
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = 0;
  for (const float v : shared) x += v;
  return x;
}

__global__ void modulate_and_round(uint8_t* codes, float* scales, const float4* x, const float4* scale,
                                   const float4* shift) {
  float held[kParts][kLaneNumbers];
  const int64_t first = int64_t{blockIdx.x} * kParts * kThreads + threadIdx.x;
  float sum = 0, squares = 0;
  for (int i = 0; i < kParts; ++i) {
    const float4 v = x[first + i * kThreads];
    held[i][0] = v.x, held[i][1] = v.y, held[i][2] = v.z, held[i][3] = v.w;
    sum += (v.x + v.y) + (v.z + v.w);
  }
  const float mean = block_sum(sum) / kWidth;
  for (const auto& part : held)
    for (const float v : part) squares += (v - mean) * (v - mean);
  const float inverse = 1.0f / sqrtf(block_sum(squares) / kWidth + kEps);
  for (int i = 0; i < kParts; ++i) {
    const float4 by = scale[i * kThreads + threadIdx.x], add = shift[i * kThreads + threadIdx.x];
    held[i][0] = (held[i][0] - mean) * inverse * (1 + by.x) + add.x;
    held[i][1] = (held[i][1] - mean) * inverse * (1 + by.y) + add.y;
    held[i][2] = (held[i][2] - mean) * inverse * (1 + by.z) + add.z;
    held[i][3] = (held[i][3] - mean) * inverse * (1 + by.w) + add.w;
  }
  round_held<__nv_fp8_storage_t>(codes, scales, held, kFp8Largest);
}

struct Rows {
  explicit Rows(int n)
      : rows(n),
        x(size_t(n) * kWidth),
        normed(size_t(n) * kWidth),
        vectors(2 * kWidth),
        codes(size_t(n) * kWidth),
        scales(n),
        modulation(2 * kWidth) {
    const auto draw = [](const Buffer<__nv_bfloat16>& to, uint64_t seed) {
      const auto count = static_cast<int64_t>(to.bytes() / sizeof(__nv_bfloat16));
      fill_normal<<<static_cast<unsigned>(count / kThreads), kThreads>>>(to.data(), count, kWidth, seed << 40, 1);
      must(cudaGetLastError(), "drawing numbers");
    };
    draw(normed, 1);
    numbers = floats(normed);
    x.take(numbers);
    draw(vectors, 2);
    for (const float v : floats(vectors)) modulation_host.push_back(0.1f * v);
    modulation.take(modulation_host);
    begins.take({0, n});
    row_of.take({0});
  }

  void present(bool rounds) {
    const inkstone::cuda::SequenceStarts starts = {begins.data(), 1};
    const inkstone::cuda::Numbers table = {modulation.data(), DType::f32};
    const inkstone::cuda::ModulatedNorm norm = {.rows = rows,
                                                .width = kWidth,
                                                .out = {normed.data(), DType::bf16},
                                                .rounded = {rounds ? codes.data() : nullptr, scales.data()},
                                                .x = {x.data(), DType::f32},
                                                .shift = {table, row_of.data(), 1, starts},
                                                .scale = {table, row_of.data(), 0, starts},
                                                .eps = kEps};
    inkstone::cuda::layer_norm_modulate(&norm, 1, nullptr);
  }
  void round() {
    round_rows<__nv_fp8_storage_t, kParts, false>
        <<<rows, kThreads>>>(codes.data(), scales.data(), normed.data(), kFp8Largest);
  }
  void fused() {
    const auto* vectors_of = reinterpret_cast<const float4*>(modulation.data());
    modulate_and_round<<<rows, kThreads>>>(codes.data(), scales.data(), reinterpret_cast<const float4*>(x.data()),
                                           vectors_of, vectors_of + kWidth / kLaneNumbers);
  }

  /// Of every 17th row: got(row, column) beside LayerNorm with modulation in f64.
  double error(const auto& got) const {
    RelativeError error;
    for (size_t r = 0; r < size_t(rows); r += 17) {
      const float* row = numbers.data() + r * kWidth;
      double mean = 0, squares = 0;
      for (int j = 0; j < kWidth; ++j) mean += double{row[j]} / kWidth;
      for (int j = 0; j < kWidth; ++j) squares += (row[j] - mean) * (row[j] - mean);
      const double inverse = 1 / std::sqrt(squares / kWidth + double{kEps});
      for (size_t j = 0; j < kWidth; ++j)
        error.add(got(r, j), (row[j] - mean) * inverse * (1 + double{modulation_host[j]}) +
                                 double{modulation_host[size_t{kWidth} + j]});
    }
    return error.value();
  }
  double error_of_codes() const {
    return error([codes = codes.host(), scales = scales.host()](size_t row, size_t column) {
      return value(codes[row * kWidth + column]) * value(scales[row]);
    });
  }
  double error_of_bf16() const {
    return error([normed = normed.host()](size_t row, size_t column) { return value(normed[row * kWidth + column]); });
  }

  int rows;
  Buffer<float> x;
  Buffer<__nv_bfloat16> normed, vectors;
  Buffer<uint8_t> codes;
  Buffer<float> scales, modulation;
  Buffer<int32_t> begins{2}, row_of{1};
  std::vector<float> numbers, modulation_host;  ///< x and the vectors again
};

void check_codes(const char* name, Rows& rows, const auto& work) {
  rows.codes.poison();
  rows.scales.poison();
  work();
  print_error(name, rows.error_of_codes(), kMostOfCodes);
}

void measure(int n) {
  Rows rows(n);
  const double count = double(n) * kWidth;
  std::printf("\n%d rows of %d\n", n, kWidth);
  print_times(0, {{"layer_norm_modulate", [&](int) { rows.present(false); }, 6 * count},
                  {"round to fp8", [&](int) { rows.round(); }, 3 * count},
                  {"both in one", [&](int) { rows.fused(); }, 5 * count},
                  {"layer_norm_modulate to fp8", [&](int) { rows.present(true); }, 5 * count}});
  rows.normed.poison();
  rows.present(false);
  print_error("layer_norm_modulate", rows.error_of_bf16(), kMostOfBf16);
  check_codes("round to fp8", rows, [&] { rows.round(); });
  check_codes("both in one", rows, [&] { rows.fused(); });
  check_codes("layer_norm_modulate to fp8", rows, [&] { rows.present(true); });
}

}  // namespace

int main() {
  print_head();
  for (const int rows : {64, 1024, 4096, 6889})
    measure(rows);  // text, and pictures of 512, 1024 and 1328 pixels a side
}
