#include "ops/weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/random_tensors.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
Tensor tensor(const Shape& shape, DType dtype, std::initializer_list<T> values) {
  Tensor t = host_tensor(shape, dtype);
  EXPECT_EQ(t.count(), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

Weight affine(int bits, int group, const Tensor& words, const Tensor& scales, const Tensor& offsets) {
  return {.format = WeightFormat::affine,
          .out = words.dim(0),
          .in = words.dim(1) * 32 / bits,
          .data = words,
          .scales = scales,
          .offsets = offsets,
          .bits = bits,
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

TEST(Weight, CountsScalesAndOffsetsAsBytes) {
  const Weight w = random_weight(MatrixKind::affine4, 6, 64, 3);
  EXPECT_EQ(bytes_of(w), 6u * 64 / 2 + 2 * 6 * 2 * 2);
}

TEST(Weight, ALayerIsAsWideAsItsSlabs) {
  const Linear layer = {
      {{random_weight(MatrixKind::f32, 3, 4, 1), {}}, {random_weight(MatrixKind::bf16, 5, 4, 2), {}}}};
  EXPECT_EQ(layer.in(), 4);
  EXPECT_EQ(layer.out(), 8);
}

}  // namespace
}  // namespace inkstone
