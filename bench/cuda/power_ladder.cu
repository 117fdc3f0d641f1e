// What the tensor cores and the copies that feed them keep up under the card's power: products of operands that lie in
// shared memory, with nothing to load, to wait for or to write; the copies of a product without the product; and a
// product so deep that what begins and ends its tiles counts for nothing.
//
// No reference, since nobody reads what these compute. Versions: bf16, E4M3 and whole numbers, of zeros and of normal
// operands; the copies and the engine's kernel at a layer's depth and far beyond it. INKSTONE_LADDER_SECONDS says how
// long each lasts, a second if it says nothing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/tile_product.cuh"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using namespace inkstone::cuda;
using inkstone::DType;

constexpr int kRunSteps = 1 << 14;   // of a launch
constexpr float kGreatestDrawn = 5;  // no normal number that is drawn is greater

/// What a block saw: cycles of its multiprocessor, and nanoseconds.
struct Clocks {
  unsigned long long cycles, nanoseconds;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kSums = kTileOuts / 2;  // that a lane has

__device__ void add_whole_async(int32_t (&d)[kSums], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 " INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS
               ", %128, %129, 1;"
               : INKSTONE_HUNDRED_TWENTY_EIGHT_AS("+r", d)
               : "l"(a), "l"(b));
}

__device__ unsigned long long nanoseconds() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

template <DType kType>
__device__ void multiply_again(float* out, Clocks* clocks, const uint4* operands) {
  using Sum = std::conditional_t<kType == DType::i8, int32_t, float>;
  extern __shared__ uint8_t memory[];
  const uint32_t gap = swizzle_aligned(shared_address(memory)) - shared_address(memory);
  auto* const room = reinterpret_cast<uint4*>(memory + gap);
  for (unsigned i = threadIdx.x; i < kRingBytes / sizeof(uint4); i += blockDim.x) room[i] = operands[i];
  publish_to_products();
  __syncthreads();
  const unsigned long long first_cycle = clock64(), begin = nanoseconds();
  const uint32_t rows = shared_address(memory) + gap + threadIdx.x / kGroup * kGroupRows * kStepBytes;
  const uint32_t columns = shared_address(memory) + gap + ProductRing::kRowsBytes;
  Sum sums[kSums] = {};
  for (int step = 0; step < kRunSteps; ++step) {
    const uint32_t stage = step % kProductStages * ProductRing::kRoom;
    begin_products();
#pragma unroll
    for (int k = 0; k < kStepBytes; k += kProductDepth) {
      if constexpr (kType == DType::i8) {
        add_whole_async(sums, describe(rows + stage + k), describe(columns + stage + k));
      } else {
        add_product<kType>(sums, rows + stage + k, columns + stage + k);
      }
    }
    commit_products();
    wait_products<1>();
  }
  wait_products<0>();
  pin(sums);
  float sum = 0;
  for (const Sum v : sums) sum += static_cast<float>(v);
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
  if (blockIdx.x == 0 && threadIdx.x == 0) *clocks = {clock64() - first_cycle, nanoseconds() - begin};
}

#endif

template <DType kType>
__global__ void __launch_bounds__(kMultiplyingGroups* kGroup, 1)
    multiply_without_end(float* out, Clocks* clocks, const uint4* operands) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  multiply_again<kType>(out, clocks, operands);
#endif
}

/// All copies of a product, as the engine's kernel makes them.
__global__ void __launch_bounds__(kProductThreads, 1) copy_without_product(const __grid_constant__ TiledProducts t) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t memory[];
  __shared__ uint64_t barriers[ProductRing::kBarriers];
  ProductRing ring = {swizzle_aligned(shared_address(memory)), shared_address(barriers)};
  const int rank = static_cast<int>(rank_in_cluster());
  ring.open();
  if (threadIdx.x == 0) copy_tiles(t, ring, rank);
  if (threadIdx.x >= kGroup)
    for (int pair = blockIdx.x / kPair; pair < t.pairs; pair += gridDim.x / kPair) skip_tile(ring, t.steps);
  meet_cluster();
#endif
}

/// The same million normal numbers again and again.
template <class T>
void draw(const Buffer<T>& to, uint64_t seed, float factor) {
  constexpr size_t kDrawn = size_t{1} << 20;
  const size_t count = to.bytes() / sizeof(T);
  const std::vector<float> normal = drawn(std::min(count, kDrawn), seed, factor);
  const std::vector<T> numbers(normal.begin(), normal.end());
  for (size_t i = 0; i < count; i += numbers.size())
    must(cudaMemcpy(to.data() + i, numbers.data(), std::min(numbers.size(), count - i) * sizeof(T), cudaMemcpyDefault),
         "drawing numbers");
}

void check_finite(const std::string& name, const std::vector<float>& numbers) {
  must(std::ranges::all_of(numbers, [](float v) { return std::isfinite(v); }), name + ": a result is not finite");
}

double seconds_of_each() { return lasting_seconds() > 0 ? lasting_seconds() : 1; }

/// `amount`: of operations or bytes. `clocks`: what the last launch saw, if it looks.
void print_lasting(const Step& step, double amount, const char* unit, const Buffer<Clocks>* clocks = nullptr) {
  const double alone = times_of({step})[0];
  must(cudaGetLastError(), step.name.c_str());
  const double ms = lasting_ms(step, alone, seconds_of_each());
  std::printf("  %-34s %9.4f ms  %7.5g %s", step.name.c_str(), ms, amount / ms * 1e-9, unit);
  if (clocks != nullptr) {
    const Clocks last = clocks->host()[0];
    std::printf("  at %.0f MHz", 1e3 * double(last.cycles) / double(last.nanoseconds));
  }
  std::printf("\n");
}

template <DType kType, class T>
void print_type(const char* name, float factor) {
  const int blocks = multiprocessors("power_ladder");
  const Buffer<float> out(size_t(blocks) * kMultiplyingGroups * kGroup);
  const Buffer<Clocks> clocks(1);
  const Buffer<T> operands(kRingBytes / sizeof(T));
  const auto kernel = multiply_without_end<kType>;
  constexpr int kBytes = kRingBytes + kSwizzleBytes;
  allow_shared_memory(kernel, kBytes, "power_ladder");
  const double flop = 2.0 * blocks * kTileRows * kTileOuts * (kStepBytes / sizeof(T)) * kRunSteps;
  const auto print = [&](const std::string& what) {
    const Step step = {std::string(name) + what, [&](int) {
                         kernel<<<blocks, kMultiplyingGroups * kGroup, kBytes>>>(
                             out.data(), clocks.data(), reinterpret_cast<const uint4*>(operands.data()));
                       }};
    print_lasting(step, flop, "T/s", &clocks);
    check_finite(step.name, out.host());
  };
  must(cudaMemset(operands.data(), 0, operands.bytes()), "clearing");
  print(", zeros");
  draw(operands, 1, factor);
  print(", normal numbers");
}

/// The engine's kernel with 4096 rows and 3072 outputs, and its copies alone.
template <DType kType, class T>
void print_product(const char* name, int depth, float factor) {
  constexpr int kRows = 4096, kOuts = 3072;
  const Buffer<T> x(size_t{kRows} * depth), w(size_t{kOuts} * depth);
  draw(x, 1, factor);
  draw(w, 2, factor);
  const Buffer<float> x_scales(kRows), w_scales(kOuts);
  x_scales.take(std::vector<float>(kRows, 1));
  w_scales.take(std::vector<float>(kOuts, 1));
  const Buffer<__nv_bfloat16> out(size_t{kRows} * kOuts);
  FusedProduct product;
  product.type = kType;
  product.rows = kRows;
  product.outs = kOuts;
  product.depth = depth;
  product.x = x.data();
  product.w = w.data();
  product.x_scales = x_scales.data();
  product.w_scales = w_scales.data();
  product.out = {out.data(), DType::bf16};
  const std::string what = std::string(name) + ", " + std::to_string(depth) + " deep";
  print_lasting({what, [&](int) { fused_products(&product, 1, {}, nullptr); }}, 2.0 * kRows * kOuts * depth, "T/s");
  check_finite(what, floats(out));
  const TiledProducts tiles = tiles_of(&product, 1);
  const double bytes = double(tiles.pairs) * kPair * tiles.steps * (kTileRows + kTileOuts / kPair) * kStepBytes;
  print_lasting({what + ", copies", [&](int) { launch_in_pairs(copy_without_product, tiles.pairs, tiles, nullptr); }},
                bytes, "TB/s");
}

}  // namespace

int main() {
  constexpr float kFp8Spread = kFp8Largest / kGreatestDrawn, kWholeSpread = kInt8Largest / kGreatestDrawn;
  must(has_wgmma(), "power_ladder: it needs a GPU of compute capability 9.0");
  print_head("each for " + std::to_string(seconds_of_each()) + " s without a pause");
  std::printf("operands in shared memory, products of 64x256 by two groups a multiprocessor\n");
  print_type<DType::bf16, __nv_bfloat16>("bf16", 1);
  print_type<DType::f8_e4m3, __nv_fp8_e4m3>("E4M3", kFp8Spread);
  print_type<DType::i8, int8_t>("whole numbers", kWholeSpread);
  std::printf("the engine's product of 4096 rows and 3072 outputs\n");
  for (const int depth : {3072, 12288, 49152}) print_product<DType::bf16, __nv_bfloat16>("bf16", depth, 1);
  for (const int depth : {3072, 12288, 98304}) print_product<DType::f8_e4m3, __nv_fp8_e4m3>("E4M3", depth, kFp8Spread);
}
