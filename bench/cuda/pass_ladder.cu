// Passes over memory that only a GPU's products need: expanding packed weights to bf16, rounding activations to 8 bits,
// and the softmax of attention that goes by products. Bytes are those read and written.
#include <cstdint>
#include <cuda_bf16.h>

#include "cuda/launch.h"
#include "ladder.h"
#include "ops/mixed_order.h"
#include "ops/weight_format.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using inkstone::Activation;
using inkstone::DType;
using inkstone::WeightFormat;
namespace cuda = inkstone::cuda;

constexpr int64_t kOuts = 12288, kIns = 3072, kGroup = 64;  // of the MLP's first layer; groups as `quantize` packs them

/// Random bits are numbers of these formats, if not of a sensible size.
void measure_expanding() {
  constexpr WeightFormat kFormats[] = {WeightFormat::f32,     WeightFormat::affine4, WeightFormat::affine8,
                                       WeightFormat::f8_e4m3, WeightFormat::q8_0,    WeightFormat::q4_k};
  const Buffer<__nv_bfloat16> out(kOuts * kIns), beside(2 * kOuts * kIns / kGroup), bits(2 * kOuts * kIns);
  fill_normal<<<static_cast<unsigned>(2 * kOuts * kIns / kThreads), kThreads>>>(bits.data(), 2 * kOuts * kIns, kIns, 1,
                                                                                1);
  fill_normal<<<static_cast<unsigned>(2 * kOuts * kIns / kGroup / kThreads), kThreads>>>(
      beside.data(), 2 * kOuts * kIns / kGroup, kIns, 2, 1);
  must(cudaGetLastError(), "drawing numbers");
  std::vector<Step> steps;
  for (const WeightFormat format : kFormats) {
    const inkstone::BlockLayout& layout = inkstone::layout_of(format);
    const bool scaled = layout.beside != inkstone::Beside::nothing;
    const bool offset = layout.beside == inkstone::Beside::scales_and_offsets;
    const int64_t group = offset ? kGroup : kIns, groups = kOuts * kIns / group;
    cuda::Matrix matrix = {};
    matrix.data = bits.data();
    matrix.format = format;
    matrix.bits = bits_of(layout);
    matrix.in = kIns;
    if (scaled) {
      matrix.group = group;
      matrix.scales = {beside.data(), DType::bf16};
    }
    if (offset) matrix.offsets = {beside.data() + groups, DType::bf16};
    const double read = double(kOuts * kIns / layout.numbers * layout.bytes) + 2.0 * groups * (scaled + offset);
    steps.push_back({std::string("expanding ") + layout.name,
                     [&out, matrix](int) {
                       cuda::expand({out.data(), DType::bf16}, matrix, kOuts, nullptr);
                     },
                     read + 2.0 * kOuts * kIns});
  }
  std::printf("\nweights, %d -> %d, to bf16\n", static_cast<int>(kIns), static_cast<int>(kOuts));
  print_times(0, steps);
}

/// Attention's output, and what GELU gave.
void measure_rounding(int64_t rows, int64_t width) {
  const int64_t count = rows * width, groups = (width + inkstone::kMixedGroup - 1) / inkstone::kMixedGroup;
  const Buffer<__nv_bfloat16> x(count);
  const Buffer<uint8_t> codes(count);
  const Buffer<float> scales(rows), factors(width);
  const Buffer<cuda::MixedScale> mixed_scales(groups * rows);
  fill_normal<<<static_cast<unsigned>(count / kThreads), kThreads>>>(x.data(), count, static_cast<int>(width), 3, 1);
  const std::vector<float> ones(static_cast<size_t>(width), 1.0f);
  must(cudaMemcpy(factors.data(), ones.data(), factors.bytes(), cudaMemcpyDefault), "copying");
  const cuda::Numbers numbers = {x.data(), DType::bf16};
  const auto mixed = reinterpret_cast<int8_t*>(codes.data());
  std::printf("\n%d rows of %d, bf16 to 8 bits\n", static_cast<int>(rows), static_cast<int>(width));
  print_times(0,
              {{"fp8, a scale a row",
                [&](int) {
                  cuda::round_rows({codes.data(), scales.data()}, numbers, Activation::none, rows, width, nullptr);
                },
                3.0 * count + 4.0 * rows},
               {"int8, mixed in groups",
                [&](int) {
                  cuda::round_mixed_rows({mixed, mixed_scales.data()}, numbers, factors.data(), rows, width, nullptr);
                },
                3.0 * count + 8.0 * groups * rows}});
}

/// A band of scores of one head.
void measure_softmax(int64_t queries, int64_t keys) {
  const Buffer<float> scores(queries * keys);
  const Buffer<__nv_bfloat16> weights(queries * keys);
  must(cudaMemset(scores.data(), 0, scores.bytes()), "clearing");
  std::printf("\n%d rows of %d scores\n", static_cast<int>(queries), static_cast<int>(keys));
  print_times(0, {{"softmax",
                   [&](int) {
                     cuda::softmax({.out = {weights.data(), DType::bf16},
                                    .scores = scores.data(),
                                    .batch = 1,
                                    .queries = queries,
                                    .keys = keys},
                                   nullptr);
                   },
                   6.0 * queries * keys}});
}

}  // namespace

int main() {
  print_head();
  measure_expanding();
  for (const int64_t width : {3072, 12288}) measure_rounding(4096, width);
  measure_softmax(4096, 4096);
  measure_softmax(1024, 16384);
}
