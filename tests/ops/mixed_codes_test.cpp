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
const MatrixSize kSmallSizes[] = {{16, 8}, {48, 384}, {64, 392}, {96, 3072}, {112, 3456}, {32, 6152}};  // of 4 bits

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

TEST(MixedOrder, EveryNumberOf4BitsHasAPlaceOfItsOwn) {
  for (const auto& [out, in] : kSmallSizes) {
    const MixedOrder order = {out, in};
    std::vector<int> codes(static_cast<size_t>(out * in)), steps(static_cast<size_t>(2 * out * ((in + 63) / 64)));
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) {
        ++codes.at(static_cast<size_t>(2 * order.pair(o, i) + (MixedOrder::is_upper(i) ? 1 : 0)));
        if (i % kMixedSmallGroup != 0) continue;
        ++steps.at(static_cast<size_t>(order.step(o, i)));
        ++steps.at(static_cast<size_t>(order.step(o, i) + order.columns(MixedOrder::strip_of(o))));
      }
    EXPECT_TRUE(std::ranges::all_of(codes, [](int n) { return n == 1; })) << out << " " << in;
    EXPECT_TRUE(std::ranges::all_of(steps, [](int n) { return n == 1; })) << out << " " << in;
  }
}

// Written out, as files lie so for ever.
TEST(MixedOrder, Of4BitsIsTheOneOfTheFormat) {
  const MixedOrder order = {64, 3456};
  EXPECT_EQ(order.pair(0, 3), 3);
  EXPECT_EQ(order.pair(1, 0), 4);
  EXPECT_EQ(order.pair(0, 4), 0);
  EXPECT_EQ(order.pair(0, 8), 4 * 48);
  EXPECT_FALSE(MixedOrder::is_upper(3));
  EXPECT_TRUE(MixedOrder::is_upper(4));
  EXPECT_FALSE(MixedOrder::is_upper(8));
  EXPECT_EQ(order.pair(50, 3085), (64 * 3072 + 48 * 384) / 2 + 4 * 16 + 2 * 4 + 1);
  EXPECT_EQ(order.step(5, 64), 2 * 48 + 5);
  EXPECT_EQ(order.step(48, 64), 2 * 48 * 48 + 2 * 16);
  EXPECT_EQ(order.step(3, 3072), 2 * 64 * 48 + 3);
  EXPECT_FALSE(MixedOrder::takes_small(16, 4));
  EXPECT_TRUE(MixedOrder::takes_small(16, 8));
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

/// Of normal numbers, none of which is evened out.
double error_of_4_bits(int64_t out, int64_t in) {
  const Tensor numbers = random_normal({out, in}, 3),
               ones = host_tensor(std::vector<float>(static_cast<size_t>(in), 1));
  return relative_error(unpacked(in_mixed_order(WeightFormat::affine4, numbers, ones)).data, numbers);
}

// Whole steps and a group's one scale cost 1 % beside scales of their own.
TEST(MixedCodes, Of4BitsAreHardlyWorseThanRows) {
  const Tensor numbers = random_normal({96, 3072}, 3);
  const double rows = relative_error(unpacked(in_rows(WeightFormat::affine4, numbers, kMixedSmallGroup)).data, numbers);
  EXPECT_NEAR(rows, 0.085, 0.002);
  EXPECT_LT(error_of_4_bits(96, 3072), 1.015 * rows);
  for (const auto& [out, in] : kSmallSizes) EXPECT_LT(error_of_4_bits(out, in), 1.03 * rows) << out << " " << in;
}

// What inputs with a mean are multiplied with: without balance the errors of n numbers add up to sqrt(n) of them.
TEST(MixedCodes, ErrorsOf4BitsHardlyAddUp) {
  constexpr int64_t kOut = 48, kIn = 400;  // blocks of 256, 128 and, too few to be mixed, 16
  const Tensor numbers = random_normal({kOut, kIn}, 3), ones = host_tensor(std::vector<float>(kIn, 1));
  const Tensor read_back = unpacked(in_mixed_order(WeightFormat::affine4, numbers, ones)).data;
  double squares = 0, squares_of_sums = 0;
  for (int64_t row = 0; row < kOut; ++row)
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 256}, {256, 384}}) {
      double sum = 0;
      for (int64_t i = row * kIn + begin; i < row * kIn + end; ++i) {
        const double error = read_back.data<const float>()[i] - numbers.data<const float>()[i];
        sum += error;
        squares += error * error;
      }
      squares_of_sums += sum * sum;
    }
  EXPECT_LT(squares_of_sums, 0.15 * squares);
}

TEST(MixedCodes, Of4BitsFollowSmallNumbers) {
  Weight weight = random_mixed(WeightFormat::affine4, 16, 32, 3, 1);  // too short to be mixed
  std::vector<float> numbers(16 * 32);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = 1e-30f * static_cast<float>(i % 16) - 3e-30f;
  quantize_mixed(numbers.data(), weight);
  const Tensor read_back = unpacked(weight).data;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const float factor = weight.factors.data<const float>()[i % 32];
    EXPECT_NEAR(read_back.data<const float>()[i], numbers[i], 1e-30f * factor) << i;
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
  EXPECT_EQ(bytes_of(random_mixed(WeightFormat::affine4, 64, 3464, 3)),
            32u * 3464 + 4 * 64 * 10 + 2 * 64 * 55 + 4 * 3464);
}

TEST(MixedCodes, ZerosStayZeros) {
  for (const WeightFormat format : {WeightFormat::affine8, WeightFormat::affine4}) {
    const Weight weight = random_mixed(format, 16, 400, 3);
    quantize_mixed(host_tensor(std::vector<float>(16 * 400)).data<const float>(), weight);
    const Tensor all = unpacked(weight).data;
    for (const float number : all.span<const float>()) EXPECT_EQ(number, 0);
  }
}

}  // namespace
}  // namespace inkstone
