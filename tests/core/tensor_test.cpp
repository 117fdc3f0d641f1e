#include "core/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Throws;
using ::testing::ThrowsMessage;

Tensor counting(const Shape& shape) {
  Tensor t = host_tensor(shape, DType::f32);
  for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = static_cast<float>(i);
  return t;
}

TEST(Shape, CountsAndPrints) {
  const Shape s = {2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s.count(), 24);
  EXPECT_EQ(s.rows(), 6);
  EXPECT_EQ(s[-1], 4);
  EXPECT_EQ(s.text(), "[2, 3, 4]");
  EXPECT_EQ(fmt::format("{}", s), "[2, 3, 4]");
  EXPECT_EQ(s.with_first(7), (Shape{7, 3, 4}));
}

TEST(Shape, OfRankZeroHasOneElement) {
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(Shape().text(), "[]");
}

TEST(Shape, RanksMatterForEquality) { EXPECT_NE((Shape{2, 1}), (Shape{2})); }

TEST(Shape, RefusesARankAboveSix) {
  EXPECT_THAT([] { Shape({1, 1, 1, 1, 1, 1, 1}); }, ThrowsMessage<Error>(HasSubstr("rank 7")));
}

TEST(Tensor, IsEmptyUntilAssigned) {
  EXPECT_FALSE(Tensor());
  EXPECT_TRUE(host_tensor({0}, DType::f32));
}

TEST(Tensor, LiesAtAMultipleOf64Bytes) {
  for (const int64_t n : {1, 3, 1000}) {
    const Tensor t = host_tensor({n}, DType::bf16);
    EXPECT_EQ(reinterpret_cast<size_t>(t.data<void>()) % 64, 0u);
    EXPECT_EQ(t.bytes(), 2u * static_cast<size_t>(n));
  }
}

TEST(Tensor, RowsShareTheBuffer) {
  const Tensor t = counting({4, 3});
  const Tensor middle = t.rows(1, 3);
  EXPECT_EQ(middle.shape(), (Shape{2, 3}));
  EXPECT_THAT(middle.span<float>(), ElementsAre(3, 4, 5, 6, 7, 8));
  EXPECT_THAT(middle.rows(1, 2).span<float>(), ElementsAre(6, 7, 8));
  middle.data<float>()[0] = 99;
  EXPECT_EQ(t.data<float>()[3], 99);
  EXPECT_EQ(t.rows(2, 2).count(), 0);
}

TEST(Tensor, RefusesRowsOutsideIt) {
  const Tensor t = counting({4, 3});
  EXPECT_THAT([&] { t.rows(2, 5); }, ThrowsMessage<Error>(HasSubstr("rows 2 to 5 of a tensor [4, 3]")));
  EXPECT_THAT([&] { t.rows(-1, 2); }, Throws<Error>());
  EXPECT_THAT([&] { t.rows(3, 2); }, Throws<Error>());
}

TEST(Tensor, ReshapeKeepsOrderAndCount) {
  const Tensor t = counting({2, 6}).rows(1, 2).reshape({3, 2});
  EXPECT_THAT(t.rows(1, 2).span<float>(), ElementsAre(8, 9));
  EXPECT_THAT([&] { t.reshape({4, 2}); }, ThrowsMessage<Error>(HasSubstr("[3, 2] cannot be seen as [4, 2]")));
}

TEST(Tensor, OutlivesItsOrigin) {
  Tensor view;
  { view = counting({3, 2}).rows(1, 3); }
  EXPECT_THAT(view.span<float>(), ElementsAre(2, 3, 4, 5));
}

TEST(Tensor, CopiesValues) {
  const std::vector<int32_t> values = {3, -1};
  const Tensor t = host_tensor(values);
  EXPECT_EQ(t.dtype(), DType::i32);
  EXPECT_THAT(t.span<int32_t>(), ElementsAre(3, -1));
}

TEST(Tensor, WidensEveryFloatType) {
  Tensor f16 = host_tensor({2}, DType::f16), bf16 = host_tensor({2}, DType::bf16);
  f16.data<f16_t>()[0] = {0x3c00}, f16.data<f16_t>()[1] = {0xc000};
  bf16.data<bf16_t>()[0] = {0x3f80}, bf16.data<bf16_t>()[1] = {0xc000};
  EXPECT_THAT(to_f32(f16).span<float>(), ElementsAre(1, -2));
  EXPECT_THAT(to_f32(bf16).span<float>(), ElementsAre(1, -2));
  EXPECT_THAT(to_f32(counting({2})).span<float>(), ElementsAre(0, 1));
  EXPECT_THAT([] { to_f32(host_tensor({2}, DType::u8)); }, ThrowsMessage<Error>(HasSubstr("U8")));
}

}  // namespace
}  // namespace inkstone
