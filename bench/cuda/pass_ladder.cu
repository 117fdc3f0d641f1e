// Passes over memory that only a GPU's products need: expanding packed weights to bf16, rounding activations to 8 bits,
// and the softmax of attention that goes by products. Bytes are those read and written.
//
// Reference, of some rows: the definition of a weight's format; the numbers that were rounded; softmax in f64.
#include <cmath>
#include <cstdint>
#include <cuda_bf16.h>

#include "cuda/launch.h"
#include "definitions.h"
#include "ladder.h"
#include "ops/mixed_order.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using inkstone::Activation;
using inkstone::DType;
using inkstone::WeightFormat;
namespace cuda = inkstone::cuda;

constexpr int64_t kOuts = 12288, kIns = 3072, kGroup = 64;  // of the MLP's first layer; groups as `quantize` packs them

constexpr int64_t kCheckedRows = 8;
constexpr double kMostOfBf16 = 0x1p-8, kMostOfFp8 = 3e-2, kMostOfInt8 = 1.2e-2;

/// Of so many, the first and the last among them.
std::vector<int64_t> checked(int64_t rows) {
  std::vector<int64_t> some;
  for (int64_t i = 0; i < kCheckedRows; ++i) some.push_back((rows - 1) * i / (kCheckedRows - 1));
  return some;
}

std::vector<uint8_t> bytes_at(const void* device, int64_t first, int64_t count) {
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  must(cudaMemcpy(bytes.data(), static_cast<const uint8_t*>(device) + first, bytes.size(), cudaMemcpyDefault),
       "checking");
  return bytes;
}

PackedRow row_of(const cuda::Matrix& matrix, int64_t row) {
  const inkstone::BlockLayout& layout = inkstone::layout_of(matrix.format);
  const int64_t bytes = matrix.in / layout.numbers * layout.bytes;
  PackedRow packed = {matrix.format, matrix.in, matrix.group, bytes_at(matrix.data, row * bytes, bytes), {}, {}};
  if (matrix.group == 0) return packed;
  const int64_t beside = matrix.in / matrix.group * int64_t{sizeof(__nv_bfloat16)};
  packed.scales = bytes_at(matrix.scales.data, row * beside, beside);
  if (matrix.offsets.data != nullptr) packed.offsets = bytes_at(matrix.offsets.data, row * beside, beside);
  return packed;
}

/// The greatest of some rows, relative to each number: they are of all sizes. Random bits of some formats are NaN.
double expanding_error(const Buffer<__nv_bfloat16>& out, const cuda::Matrix& matrix, int64_t rows) {
  double greatest = 0;
  for (const int64_t row : checked(rows)) {
    const std::vector<float> right = dequantized(row_of(matrix, row));
    const std::vector<__nv_bfloat16> got = out.host(static_cast<size_t>(row) * right.size(), right.size());
    for (size_t i = 0; i < right.size(); ++i) {
      const double wanted = double{right[i]}, off = std::abs(value(got[i]) - wanted);
      if (std::isnan(wanted) && std::isnan(value(got[i]))) continue;
      greatest = off == 0 ? greatest : std::max(off / std::abs(wanted), greatest);
      if (std::isnan(off)) return off;
    }
  }
  return greatest;
}

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
  std::printf("\nweights, %d -> %d, to bf16\n", static_cast<int>(kIns), static_cast<int>(kOuts));
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
    out.poison();
    cuda::expand({out.data(), DType::bf16}, matrix, kOuts, nullptr);
    print_error(layout.name, expanding_error(out, matrix, kOuts), kMostOfBf16);
    const double read = double(kOuts * kIns / layout.numbers * layout.bytes) + 2.0 * groups * (scaled + offset);
    steps.push_back({std::string("expanding ") + layout.name,
                     [&out, matrix](int) {
                       cuda::expand({out.data(), DType::bf16}, matrix, kOuts, nullptr);
                     },
                     read + 2.0 * kOuts * kIns});
  }
  print_times(0, steps);
}

/// Of some rows: got(row, numbers) widens a row of codes.
double rounding_error(const std::vector<float>& x, int64_t rows, int64_t width, const auto& got) {
  RelativeError error;
  for (const int64_t row : checked(rows)) {
    std::vector<float> numbers(static_cast<size_t>(width));
    got(row, numbers);
    for (size_t i = 0; i < numbers.size(); ++i)
      error.add(double{numbers[i]}, double{x[static_cast<size_t>(row * width) + i]});
  }
  return error.value();
}

/// Takes a row of mixed codes apart; NaN where a group's sum of codes is not theirs.
void widen_mixed(const std::vector<uint8_t>& codes, const std::vector<cuda::MixedScale>& scales, int64_t rows,
                 int64_t row, std::vector<float>& numbers) {
  const auto width = static_cast<int64_t>(numbers.size());
  for (int64_t begin = 0; begin < width; begin += inkstone::kMixedGroup) {
    const int64_t count = std::min(inkstone::kMixedGroup, width - begin);
    const cuda::MixedScale scale = scales[static_cast<size_t>(begin / inkstone::kMixedGroup * rows + row)];
    int32_t sum = 0;
    for (int64_t i = begin; i < begin + count; ++i) {
      const auto code = static_cast<int8_t>(codes[static_cast<size_t>(row * width + i)]);
      sum += code;
      numbers[static_cast<size_t>(i)] = static_cast<float>(code) * scale.scale;
    }
    unmix_group(numbers.data() + begin, count);
    if (sum != scale.sum) numbers[static_cast<size_t>(begin)] = NAN;
  }
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
  factors.take(ones);
  const cuda::Numbers numbers = {x.data(), DType::bf16};
  const auto mixed = reinterpret_cast<int8_t*>(codes.data());
  const auto to_fp8 = [&](int) {
    cuda::round_rows({codes.data(), scales.data()}, numbers, Activation::none, rows, width, nullptr);
  };
  const auto to_int8 = [&](int) {
    cuda::round_mixed_rows({mixed, mixed_scales.data()}, numbers, factors.data(), rows, width, nullptr);
  };
  std::printf("\n%d rows of %d, bf16 to 8 bits\n", static_cast<int>(rows), static_cast<int>(width));
  const std::vector<float> right = floats(x);
  codes.poison();
  to_fp8(0);
  const auto widen = [&, codes = codes.host(), scales = scales.host()](int64_t row, std::vector<float>& got) {
    for (size_t i = 0; i < got.size(); ++i)
      got[i] = static_cast<float>(value(codes[static_cast<size_t>(row) * got.size() + i])) *
               scales[static_cast<size_t>(row)];
  };
  print_error("fp8, a scale a row", rounding_error(right, rows, width, widen), kMostOfFp8);
  codes.poison();
  to_int8(0);
  const auto widen_groups = [&, codes = codes.host(), scales = mixed_scales.host()](
                                int64_t row, std::vector<float>& got) { widen_mixed(codes, scales, rows, row, got); };
  print_error("int8, mixed in groups", rounding_error(right, rows, width, widen_groups), kMostOfInt8);
  print_times(0, {{"fp8, a scale a row", to_fp8, 3.0 * count + 4.0 * rows},
                  {"int8, mixed in groups", to_int8, 3.0 * count + 8.0 * groups * rows}});
}

/// Of some rows, in f64.
double softmax_error(const Buffer<__nv_bfloat16>& weights, const std::vector<float>& scores, int64_t rows) {
  const size_t keys = scores.size() / static_cast<size_t>(rows);
  RelativeError error;
  for (const int64_t row : checked(rows)) {
    const float* const of_row = scores.data() + static_cast<size_t>(row) * keys;
    const std::vector<__nv_bfloat16> got = weights.host(static_cast<size_t>(row) * keys, keys);
    double sum = 0;
    for (size_t j = 0; j < keys; ++j) sum += std::exp(double{of_row[j]});
    for (size_t j = 0; j < keys; ++j) error.add(value(got[j]), std::exp(double{of_row[j]}) / sum);
  }
  return error.value();
}

/// A band of scores of one head.
void measure_softmax(int64_t queries, int64_t keys) {
  const int64_t count = queries * keys;
  const Buffer<float> scores(count);
  const Buffer<__nv_bfloat16> weights(count);
  fill_normal<<<static_cast<unsigned>(count / kThreads), kThreads>>>(weights.data(), count, static_cast<int>(keys), 4,
                                                                     1);
  const std::vector<float> drawn = floats(weights);
  scores.take(drawn);
  const auto work = [&](int) {
    cuda::softmax(
        {.out = {weights.data(), DType::bf16}, .scores = scores.data(), .batch = 1, .queries = queries, .keys = keys},
        nullptr);
  };
  std::printf("\n%d rows of %d scores\n", static_cast<int>(queries), static_cast<int>(keys));
  weights.poison();
  work(0);
  print_error("softmax", softmax_error(weights, drawn, queries), kMostOfBf16);
  print_times(0, {{"softmax", work, 6.0 * count}});
}

}  // namespace

int main() {
  print_head();
  measure_expanding();
  for (const int64_t width : {3072, 12288}) measure_rounding(4096, width);
  measure_softmax(4096, 4096);
  measure_softmax(1024, 16384);
}
