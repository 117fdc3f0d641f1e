#include "ops/weight.h"

#include <bit>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/random_tensors.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

template <class T>
Tensor tensor(const Shape& shape, DType dtype, std::initializer_list<T> values) {
  Tensor t = host_tensor(shape, dtype);
  EXPECT_EQ(t.count(), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

Weight affine(int bits, int group, const Tensor& words, const Tensor& scales, const Tensor& offsets) {
  return {.format = bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8,
          .out = words.dim(0),
          .in = words.dim(1) * 32 / bits,
          .data = words,
          .scales = scales,
          .offsets = offsets,
          .group = group};
}

std::vector<float> rows(const Weight& weight, int64_t begin, int64_t end) {
  std::vector<float> out(static_cast<size_t>((end - begin) * weight.in));
  dequantize_rows(weight, begin, end, out.data());
  return out;
}

std::string error_of_dense(const Tensor& matrix) {
  try {
    dense_weight(matrix);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Weight, TakesTheFormatOfItsMatrix) {
  const Tensor matrix = random_normal({3, 5}, 1);
  EXPECT_EQ(dense_weight(matrix).format, WeightFormat::f32);
  EXPECT_EQ(dense_weight(as_f16(matrix)).format, WeightFormat::f16);
  const Weight w = dense_weight(as_bf16(matrix));
  EXPECT_EQ(w.format, WeightFormat::bf16);
  EXPECT_EQ(w.out, 3);
  EXPECT_EQ(w.in, 5);
  EXPECT_EQ(bytes_of(w), 30u);
}

TEST(Weight, RefusesWhatIsNoFloatMatrix) {
  EXPECT_THAT(error_of_dense(host_tensor({4}, DType::f32)), HasSubstr("shape [4]"));
  EXPECT_THAT(error_of_dense(host_tensor({2, 2}, DType::f64)), HasSubstr("F64"));
}

TEST(Weight, GivesRowsOfDenseMatricesExactly) {
  const Tensor matrix = tensor<float>({3, 2}, DType::f32, {1, -2, 0.5f, 4, -0.25f, 8});  // exact in every float type
  for (const Tensor& held : {matrix, as_f16(matrix), as_bf16(matrix)})
    EXPECT_THAT(rows(dense_weight(held), 1, 3), ElementsAre(0.5f, 4, -0.25f, 8)) << name_of(held.dtype());
}

TEST(Weight, FourBitCodesStandLowestFirst) {
  const Weight w = affine(4, 8, tensor<uint32_t>({1, 1}, DType::u32, {0x76543210}),
                          tensor<float>({1, 1}, DType::f32, {1}), tensor<float>({1, 1}, DType::f32, {0}));
  EXPECT_THAT(rows(w, 0, 1), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(Weight, EightBitCodesAreUnsigned) {
  const Weight w = affine(8, 4, tensor<uint32_t>({1, 1}, DType::u32, {0xff800102}),
                          tensor<float>({1, 1}, DType::f32, {1}), tensor<float>({1, 1}, DType::f32, {0}));
  EXPECT_THAT(rows(w, 0, 1), ElementsAre(2, 1, 128, 255));
}

TEST(Weight, EachGroupHasItsScaleAndOffset) {
  const Tensor words = tensor<uint32_t>({2, 2}, DType::u32, {0x03020100, 0x04030201, 0x00000000, 0x0a0a0a0a});
  const Tensor scales = tensor<float>({2, 2}, DType::f32, {1, 2, 3, 0.5f});
  const Tensor offsets = tensor<float>({2, 2}, DType::f32, {0, -4, 7, -1});
  for (const auto& hold : {+[](const Tensor& t) { return t; }, +[](const Tensor& t) { return as_f16(t); },
                           +[](const Tensor& t) { return as_bf16(t); }}) {
    const Weight w = affine(8, 4, words, hold(scales), hold(offsets));
    EXPECT_THAT(rows(w, 0, 1), ElementsAre(0, 1, 2, 3, -2, 0, 2, 4));
    EXPECT_THAT(rows(w, 1, 2), ElementsAre(7, 7, 7, 7, 4, 4, 4, 4));
  }
}

TEST(Weight, EightBitFloatsTakeTheScaleOfTheirOutput) {
  Weight w = dense_weight(tensor<uint8_t>({2, 3}, DType::f8_e4m3, {0x38, 0xb8, 0x7e, 0x01, 0x08, 0xfe}));
  EXPECT_EQ(w.format, WeightFormat::f8_e4m3);
  EXPECT_THAT(rows(w, 0, 2), ElementsAre(1, -1, 448, 0x1p-9f, 0x1p-6f, -448));
  EXPECT_EQ(bytes_of(w), 6u);
  w.scales = tensor<float>({2, 1}, DType::f32, {3, 0.1f});
  w.group = 3;
  EXPECT_THAT(rows(w, 0, 1), ElementsAre(3, -3, 1344));
  EXPECT_THAT(rows(w, 1, 2), ElementsAre(0x1p-9f * 0.1f, 0x1p-6f * 0.1f, -448 * 0.1f));
  EXPECT_EQ(bytes_of(w), 6u + 8);
  const Weight e5m2 = dense_weight(tensor<uint8_t>({1, 3}, DType::f8_e5m2, {0x3c, 0x7b, 0x81}));
  EXPECT_THAT(rows(e5m2, 0, 1), ElementsAre(1, 57344, -0x1p-16f));
}

/// FNV-1a of numbers' bits. The fixture has it of what the Python package gguf makes of the same blocks.
uint64_t digest_of(const std::vector<float>& numbers) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const float x : numbers) {
    const auto bits = std::bit_cast<uint32_t>(x);
    for (int i = 0; i < 4; ++i) hash = (hash ^ ((bits >> (8 * i)) & 255)) * 0x100000001b3u;
  }
  return hash;
}

TEST(Weight, BlocksOfGgufAreWhatItsReferenceLibraryMakesOfThem) {
  std::ifstream file(std::string(INKSTONE_TEST_DATA) + "/expected/gguf_blocks.txt");
  int formats = 0;
  std::string name, digest;
  int64_t count = 0;
  std::vector<float> first(4);
  while (file >> name >> count >> digest >> first[0] >> first[1] >> first[2] >> first[3]) {
    const auto format =
        std::ranges::find(every_weight_format(), name, [](WeightFormat f) { return layout_of(f).name; });
    ASSERT_NE(format, every_weight_format().end()) << name;
    const std::vector<uint8_t> blocks = random_blocks(*format, count, ++formats, kExtremeHalves);
    const BlockLayout& layout = layout_of(*format);
    Weight w = {.format = *format, .out = 1, .in = count * layout.numbers};
    w.data = host_tensor({1, count * layout.bytes}, DType::u8);
    std::copy(blocks.begin(), blocks.end(), w.data.data<uint8_t>());
    const std::vector<float> numbers = rows(w, 0, 1);
    EXPECT_THAT(std::vector(numbers.begin(), numbers.begin() + 4), ElementsAreArray(first)) << name;
    EXPECT_EQ(fmt::format("{:016x}", digest_of(numbers)), digest) << name;
  }
  EXPECT_EQ(formats, 12);
}

TEST(Weight, CountsScalesAndOffsetsAsBytes) {
  const Weight w = random_weight(WeightFormat::affine4, 6, 64, 3);
  EXPECT_EQ(bytes_of(w), 6u * 64 / 2 + 2 * 6 * 2 * 2);
}

TEST(Weight, ALayerIsAsWideAsItsSlabs) {
  const Linear layer = {
      {{random_weight(WeightFormat::f32, 3, 4, 1), {}}, {random_weight(WeightFormat::bf16, 5, 4, 2), {}}}};
  EXPECT_EQ(layer.in(), 4);
  EXPECT_EQ(layer.out(), 8);
}

}  // namespace
}  // namespace inkstone
