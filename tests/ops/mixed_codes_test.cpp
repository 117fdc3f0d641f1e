// 8-bit codes in the order of the cpu's kernels: where each lies, what rounding costs, and that any part can be read.
#include "ops/mixed_codes.h"

#include <gtest/gtest.h>

#include "ops/int8_plain.h"
#include "ops/mixed_weights.h"
#include "relative_error.h"

namespace inkstone {
namespace {

// Outputs and inputs below, at and above the sizes of strips, groups and panels.
struct MatrixSize {
  int64_t out, in;
};
const MatrixSize kSizes[] = {{16, 4}, {48, 384}, {64, 388}, {96, 3072}, {112, 3456}, {32, 6148}};

TEST(MixedOrder, EveryNumberAndScaleHasAPlaceOfItsOwn) {
  for (const auto& [out, in] : kSizes) {
    const MixedOrder order = {out, in};
    std::vector<int> codes(static_cast<size_t>(out * in)), scales(static_cast<size_t>(out * groups_of(in)));
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) {
        ++codes.at(static_cast<size_t>(order.code(o, i)));
        if (i % kMixedGroup == 0) ++scales.at(static_cast<size_t>(order.scale(o, i)));
      }
    EXPECT_TRUE(std::ranges::all_of(codes, [](int n) { return n == 1; })) << out << " " << in;
    EXPECT_TRUE(std::ranges::all_of(scales, [](int n) { return n == 1; })) << out << " " << in;
  }
}

// Written out, as files lie so for ever.
TEST(MixedOrder, IsTheOneOfTheFormat) {
  const MixedOrder order = {64, 3456};
  EXPECT_EQ(order.code(0, 0), 0);
  EXPECT_EQ(order.code(0, 3), 3);
  EXPECT_EQ(order.code(1, 0), 4);
  EXPECT_EQ(order.code(0, 4), 4 * 48);
  EXPECT_EQ(order.code(48, 0), 48 * 3072);
  EXPECT_EQ(order.code(48, 4), 48 * 3072 + 4 * 16);
  EXPECT_EQ(order.code(0, 3072), 64 * 3072);
  EXPECT_EQ(order.code(50, 3077), 64 * 3072 + 48 * 384 + 4 * 16 + 2 * 4 + 1);
  EXPECT_EQ(order.scale(5, 384), 48 + 5);
  EXPECT_EQ(order.scale(48, 384), 48 * 8 + 16);
  EXPECT_EQ(order.scale(3, 3072), 64 * 8 + 3);
  EXPECT_FALSE(MixedOrder::takes(24, 64));
  EXPECT_FALSE(MixedOrder::takes(32, 66));
  EXPECT_FALSE(MixedOrder::takes(0, 64));
}

TEST(MixedCodes, AreThoseOfPlainLoops) {
  for (const auto& [out, in] : kSizes) {
    const Tensor numbers = random_normal({out, in}, 3);
    const Weight made = random_mixed(out, in, 3);
    std::vector<float> inverse;
    for (const float factor : made.factors.span<const float>()) inverse.push_back(1 / factor);
    const Codes plain = plain_codes(numbers, inverse);
    const MixedOrder order = {out, in};
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) {
        ASSERT_EQ(made.data.data<const uint8_t>()[order.code(o, i)],
                  plain.codes[static_cast<size_t>(o * in + i)] + kMixedOffset)
            << o << " " << i << " of " << out << " " << in;
        ASSERT_FLOAT_EQ(made.scales.data<const float>()[order.scale(o, i)],
                        plain.scales[static_cast<size_t>(o * groups_of(in) + i / kInt8Group)]);
      }
  }
}

TEST(MixedCodes, RoundingCostsWhatItMust) {
  for (const auto& [out, in] : kSizes) {
    const double error = relative_error(unpacked(random_mixed(out, in, 3, 1)).data, random_normal({out, in}, 3));
    EXPECT_GT(error, 1e-4);
    EXPECT_LT(error, 0.012);
  }
}

TEST(MixedCodes, AnyGroupsOfARowCanBeRead) {
  const Weight weight = random_mixed(64, 3460, 3);
  const Tensor all = unpacked(weight).data;
  std::vector<float> some(3460);
  for (const int64_t row : {0, 47, 48, 63})
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 384}, {384, 3456}, {3072, 3460}, {3456, 3460}}) {
      expand_row(weight, nullptr, row, begin, end, some.data());
      for (int64_t i = begin; i < end; ++i)
        EXPECT_EQ(some[static_cast<size_t>(i - begin)], all.data<const float>()[row * 3460 + i]);
    }
  EXPECT_EQ(input_unit(weight), kMixedGroup);
  EXPECT_EQ(bytes_of(weight), 64u * 3460 + 4 * 64 * 10 + 4 * 3460);
}

TEST(MixedCodes, ZerosStayZeros) {
  Weight weight = random_mixed(16, 400, 3);
  quantize_mixed(host_tensor(std::vector<float>(16 * 400)).data<const float>(), weight);
  const Tensor all = unpacked(weight).data;
  for (const float number : all.span<const float>()) EXPECT_EQ(number, 0);
}

}  // namespace
}  // namespace inkstone
