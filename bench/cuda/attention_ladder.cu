// Attention over heads of 128, one sequence: times by each kernel, and errors of some rows against f64. That in 8 bits
// is timed without and with the rounding before it.
#include <cmath>
#include <cstdint>
#include <cuda_bf16.h>

#include "core/rounding.h"
#include "cuda/launch.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
namespace cuda = inkstone::cuda;

constexpr int kHeads = 24, kWidth = 128, kCheckedRows = 8;
constexpr double kMostError = 5e-3;       // of bf16 weights and results
constexpr double kMostCodedError = 6e-2;  // of weights and values in E4M3
struct Way {
  const char* name;
  void (*run)(const cuda::FlashAttention& a, cudaStream_t stream);
};
constexpr Way kWays[] = {{"Hopper's instructions", cuda::attention_wgmma}, {"Ampere's", cuda::attention_mma}};

/// Tiles of so many queries of one sequence.
void place_tiles(const Buffer<cuda::Tile>& to, int rows, int queries) {
  std::vector<cuda::Tile> all;
  for (int i = 0; i < rows; i += queries)
    all.push_back({.key_begin = 0,
                   .key_end = rows,
                   .query = i,
                   .queries = std::min(queries, rows - i),
                   .out_row = i,
                   .stream = 0});
  must(cudaMemcpy(to.data(), all.data(), all.size() * sizeof(cuda::Tile), cudaMemcpyDefault), "copying");
}

__global__ void scale_numbers(__nv_bfloat16* x, int64_t count, float factor) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) x[i] = __float2bfloat16_rn(__bfloat162float(x[i]) * factor);
}

struct Problem {
  explicit Problem(int n, float spread)
      : rows(n), block_count(inkstone::divide_up(n, cuda::kCodedKeys)), numbers(int64_t{n} * kHeads * kWidth) {
    draw(q, 1, spread);
    draw(k, 2, spread);
    draw(v, 3, 1);
    place_tiles(tiles, n, cuda::kTileQueries);
    place_tiles(coded_tiles, n, cuda::kCodedQueries);
    std::vector<cuda::KeyBlock> all;
    for (int i = 0; i < n; i += cuda::kCodedKeys) all.push_back({i, 0, n});
    key_blocks.take(all);
  }

  void draw(const Buffer<__nv_bfloat16>& to, uint64_t seed, float spread) const {
    const auto blocks = static_cast<unsigned>((numbers + kThreads - 1) / kThreads);
    fill_normal<<<blocks, kThreads>>>(to.data(), numbers, kWidth, seed << 32, 1);
    scale_numbers<<<blocks, kThreads>>>(to.data(), numbers, spread);
    must(cudaGetLastError(), "drawing numbers");
  }
  cuda::FlashAttention problem() const {
    cuda::FlashAttention a = {};
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.rows = rows;
    a.out[0] = out.data();
    a.heads = a.kv_heads = kHeads;
    a.width = kWidth;
    return a;
  }
  void run(const Way& way) const {
    cuda::FlashAttention a = problem();
    a.tiles = tiles.data();
    a.tile_count = inkstone::divide_up(rows, cuda::kTileQueries);
    way.run(a, nullptr);
  }
  void round() const { cuda::code_qkv(coded(), problem(), nullptr); }
  void run_coded() const {
    cuda::FlashAttention a = problem();
    a.tiles = coded_tiles.data();
    a.tile_count = inkstone::divide_up(rows, cuda::kCodedQueries);
    cuda::attention_8bit(a, coded(), nullptr);
  }
  cuda::CodedQkv coded() const {
    return {.q = q_codes.data(),
            .q_scales = q_scales.data(),
            .k = k_codes.data(),
            .v = v_codes.data(),
            .scales = block_scales.data(),
            .blocks = key_blocks.data(),
            .block_count = block_count};
  }

  int rows, block_count;
  int64_t numbers;
  Buffer<__nv_bfloat16> q{size_t(numbers)}, k{size_t(numbers)}, v{size_t(numbers)}, out{size_t(numbers)};
  Buffer<cuda::Tile> tiles{1024}, coded_tiles{1024};
  Buffer<int8_t> q_codes{size_t(numbers)}, k_codes{size_t(block_count) * kHeads * cuda::kCodedKeys * kWidth};
  Buffer<uint8_t> v_codes{size_t(block_count) * kHeads * cuda::kCodedValueRows * cuda::kCodedSlots};
  Buffer<float> q_scales{size_t(rows) * kHeads};
  Buffer<cuda::KeyBlockScales> block_scales{size_t(block_count) * kHeads};
  Buffer<cuda::KeyBlock> key_blocks{size_t(block_count)};
};

/// Of kCheckedRows rows of every head: f64 attention.
std::vector<double> exact(const Problem& p) {
  const std::vector<float> q = floats(p.q), k = floats(p.k), v = floats(p.v);
  std::vector<double> all;
  for (int i = 0; i < kCheckedRows; ++i) {
    const size_t row = size_t(p.rows - 1) * i / (kCheckedRows - 1);
    for (int head = 0; head < kHeads; ++head) {
      std::vector<double> weights(p.rows), out(kWidth);
      double sum = 0;
      for (size_t j = 0; j < weights.size(); ++j) {
        double score = 0;
        for (size_t c = 0; c < kWidth; ++c)
          score += double{q[(row * kHeads + head) * kWidth + c]} * double{k[(j * kHeads + head) * kWidth + c]};
        sum += weights[j] = std::exp(score / std::sqrt(double{kWidth}));
      }
      for (size_t j = 0; j < weights.size(); ++j)
        for (size_t c = 0; c < kWidth; ++c) out[c] += weights[j] / sum * double{v[(j * kHeads + head) * kWidth + c]};
      all.insert(all.end(), out.begin(), out.end());
    }
  }
  return all;
}

double error(const Problem& p, const std::vector<double>& wanted) {
  const std::vector<float> got = floats(p.out);
  RelativeError error;
  for (int i = 0; i < kCheckedRows; ++i) {
    const size_t row = size_t(p.rows - 1) * i / (kCheckedRows - 1);
    for (size_t c = 0; c < size_t{kHeads} * kWidth; ++c)
      error.add(double{got[row * kHeads * kWidth + c]}, wanted[size_t(i) * kHeads * kWidth + c]);
  }
  return error.value();
}

}  // namespace

int main(int argc, char** argv) {
  print_head();
  std::vector<int> all_rows;
  for (int i = 1; i < argc; ++i) all_rows.push_back(std::atoi(argv[i]));
  if (all_rows.empty()) all_rows = {1088, 4160, 6953};  // pictures of 512, 1024 and 1328 pixels a side, and text
  for (const int rows : all_rows) {
    std::printf("\n%d rows\n", rows);
    for (const float spread : {1.0f, 2.0f}) {
      const Problem p(rows, spread);
      const std::vector<double> wanted = exact(p);
      const std::string larger = spread > 1 ? ", q and k twice as large" : "";
      const auto check = [&](const std::string& name, double most, const auto& run) {
        p.out.poison();
        run();
        must(cudaDeviceSynchronize(), "running");
        print_error(name + larger, error(p, wanted), most);
      };
      for (const Way& way : kWays) check(way.name, kMostError, [&] { p.run(way); });
      check("8 bits", kMostCodedError, [&] { p.round(), p.run_coded(); });
    }
    const Problem p(rows, 1);
    std::vector<Step> steps;
    for (const Way& way : kWays) steps.push_back({way.name, [&p, &way](int) { p.run(way); }});
    steps.push_back({"8 bits", [&p](int) { p.run_coded(); }});
    steps.push_back({"8 bits, rounding too", [&p](int) { p.round(), p.run_coded(); }});
    print_times(4.0 * rows * rows * kWidth * kHeads, steps);
  }
}
