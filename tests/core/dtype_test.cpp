#include "core/dtype.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace inkstone {
namespace {

float f16(uint16_t bits) { return to_float(f16_t{bits}); }

TEST(DType, KnowsNamesAndSizes) {
  EXPECT_EQ(name_of(DType::bf16), "BF16");
  EXPECT_EQ(name_of(DType::f8_e4m3), "F8_E4M3");
  EXPECT_EQ(name_of(DType::boolean), "BOOL");
  EXPECT_EQ(size_of(DType::f64), 8u);
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::u32), 4u);
  EXPECT_EQ(size_of(DType::boolean), 1u);
}

TEST(DType, WidensF16Exactly) {
  EXPECT_EQ(f16(0x3c00), 1.0f);
  EXPECT_EQ(f16(0xc000), -2.0f);
  EXPECT_EQ(f16(0x3555), 1365.0f / 4096.0f);  // about a third
  EXPECT_EQ(f16(0x7bff), 65504.0f);
  EXPECT_EQ(f16(0x0400), 0x1p-14f);  // smallest normal number
}

TEST(DType, WidensF16Subnormals) {
  EXPECT_EQ(f16(0x0001), 0x1p-24f);
  EXPECT_EQ(f16(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(f16(0x8200), -0x1p-15f);
  EXPECT_EQ(f16(0x8000), 0.0f);
  EXPECT_TRUE(std::signbit(f16(0x8000)));
}

TEST(DType, WidensF16InfinitiesAndNaN) {
  EXPECT_EQ(f16(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_EQ(f16(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(f16(0x7c01)));
  EXPECT_TRUE(std::isnan(f16(0xfe00)));
}

/// Every value in order; the whole type is a strictly growing sequence.
TEST(DType, F16GrowsWithItsBits) {
  for (uint16_t bits = 0; bits < 0x7c00; ++bits) ASSERT_LT(f16(bits), f16(static_cast<uint16_t>(bits + 1))) << bits;
}

TEST(DType, RoundsToTheNearestBf16WithTiesToEven) {
  const auto rounded = [](uint32_t f32_bits) { return to_bf16(std::bit_cast<float>(f32_bits)).bits; };
  EXPECT_EQ(rounded(0x3f800000), 0x3f80);  // exact
  EXPECT_EQ(rounded(0x3f807fff), 0x3f80);  // just below the tie
  EXPECT_EQ(rounded(0x3f808000), 0x3f80);  // tie, even below
  EXPECT_EQ(rounded(0x3f808001), 0x3f81);  // just above
  EXPECT_EQ(rounded(0x3f818000), 0x3f82);  // tie, even above
  EXPECT_EQ(rounded(0xbf818000), 0xbf82);
  EXPECT_EQ(rounded(0x3fffffff), 0x4000);  // carries into the exponent
  EXPECT_EQ(rounded(0x00000001), 0x0000);
  EXPECT_EQ(rounded(0x7f7fffff), 0x7f80);  // beyond the greatest: infinity
}

TEST(DType, Bf16KeepsInfinitiesAndNaN) {
  EXPECT_EQ(to_float(to_bf16(-std::numeric_limits<float>::infinity())), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));  // payload only in the lost half
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(DType, EveryBf16SurvivesTheWayThroughF32) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float wide = to_float(bf16_t{static_cast<uint16_t>(bits)});
    if (std::isnan(wide)) continue;
    ASSERT_EQ(to_bf16(wide).bits, bits);
  }
}

}  // namespace
}  // namespace inkstone
