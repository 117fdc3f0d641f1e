#include "ops/quantize.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

#include "ops/weight.h"
#include "relative_error.h"

namespace inkstone {
namespace {

constexpr int64_t kGroups[] = {32, 64, 128};

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return sum;
}

std::vector<float> normal_numbers(size_t n, float deviation = 1) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> numbers(n);
  for (float& x : numbers) x = normal(generator);
  return numbers;
}

/// What is read back of numbers that were packed as one row.
std::vector<float> there_and_back(WeightFormat format, const std::vector<float>& numbers, int64_t group,
                                  const float* importance = nullptr) {
  const auto n = static_cast<int64_t>(numbers.size());
  const BlockLayout& layout = layout_of(format);
  Weight w = {.format = format, .out = 1, .in = n, .group = group};
  w.data = host_tensor({1, n / layout.numbers * layout.bytes}, DType::u8);
  w.scales = host_tensor({1, n / group}, DType::bf16);
  w.offsets = host_tensor({1, n / group}, DType::bf16);
  quantize_affine(format, numbers.data(), importance, n, group,
                  {w.data.data<uint8_t>(), w.scales.data<bf16_t>(), w.offsets.data<bf16_t>()});
  std::vector<float> back(numbers.size());
  dequantize_rows(w, 0, 1, back.data());
  return back;
}

/// The squared error of codes between each group's least and greatest number, unrounded scales and offsets.
double error_of_extremes(const std::vector<float>& numbers, size_t group, float most) {
  double sum = 0;
  for (size_t begin = 0; begin < numbers.size(); begin += group) {
    const auto first = numbers.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto [least, greatest] = std::minmax_element(first, first + static_cast<std::ptrdiff_t>(group));
    const float scale = (*greatest - *least) / most;
    for (size_t i = begin; i < begin + group; ++i)
      sum += std::pow(scale * std::nearbyint((numbers[i] - *least) / scale) + *least - numbers[i], 2);
  }
  return sum;
}

TEST(Quantize, AffineErrorsAreThoseOfTheirBits) {
  const std::vector<float> numbers = normal_numbers(4096, 0.02f);
  for (const int64_t group : kGroups) {
    SCOPED_TRACE(group);
    const double spread = std::log2(static_cast<double>(group));  // larger groups hold larger extremes
    EXPECT_LT(relative_error(there_and_back(WeightFormat::affine4, numbers, group), numbers), 0.055 + 0.0065 * spread);
    EXPECT_LT(relative_error(there_and_back(WeightFormat::affine8, numbers, group), numbers), 0.0075);
  }
}

TEST(Quantize, TheSearchIsBetterThanExtremesWithFourBits) {
  const std::vector<float> numbers = normal_numbers(4096);
  for (const int64_t group : kGroups) {
    const double found = squared_error(there_and_back(WeightFormat::affine4, numbers, group), numbers);
    EXPECT_LT(found, 0.88 * error_of_extremes(numbers, static_cast<size_t>(group), 15)) << group;
  }
}

TEST(Quantize, ImportantNumbersGetTheSmallerErrors) {
  const std::vector<float> numbers = normal_numbers(4096);
  std::vector<float> importance(numbers.size(), 1);
  for (size_t i = 5; i < importance.size(); i += 16) importance[i] = 100;
  const auto weighted_error = [&](const std::vector<float>& back) {
    double sum = 0;
    for (size_t i = 0; i < numbers.size(); ++i)
      sum += importance[i] * std::pow(double{back[i]} - double{numbers[i]}, 2);
    return sum;
  };
  for (const WeightFormat format : {WeightFormat::affine4, WeightFormat::affine8})
    for (const int64_t group : kGroups) {
      const double with = weighted_error(there_and_back(format, numbers, group, importance.data()));
      const double without = weighted_error(there_and_back(format, numbers, group));
      EXPECT_LT(with, (format == WeightFormat::affine4 ? 0.8 : 1.0) * without)
          << layout_of(format).name << ", " << group;
    }
}

TEST(Quantize, EqualImportanceChangesNothingAndNoneIsStillFinite) {
  const std::vector<float> numbers = normal_numbers(512);
  const auto expected = there_and_back(WeightFormat::affine4, numbers, 64);
  const std::vector<float> ones(numbers.size(), 1), none(numbers.size(), 0);
  EXPECT_EQ(there_and_back(WeightFormat::affine4, numbers, 64, ones.data()), expected);
  const auto back = there_and_back(WeightFormat::affine4, numbers, 64, none.data());
  EXPECT_LT(squared_error(back, numbers), 2 * squared_error(expected, numbers));
}

TEST(Quantize, RoundingScaleAndOffsetCostsLittleWithEightBits) {
  const std::vector<float> numbers = normal_numbers(4096);
  for (const int64_t group : kGroups) {
    const double found = squared_error(there_and_back(WeightFormat::affine8, numbers, group), numbers);
    EXPECT_LT(found, 1.15 * error_of_extremes(numbers, static_cast<size_t>(group), 255)) << group;
  }
}

TEST(Quantize, NumbersOnTheGridAreExact) {
  for (const WeightFormat format : {WeightFormat::affine4, WeightFormat::affine8}) {
    const int codes = format == WeightFormat::affine4 ? 16 : 256;
    std::vector<float> numbers(256);
    for (int i = 0; i < 256; ++i) numbers[static_cast<size_t>(i)] = 0.25f * static_cast<float>(i % codes) - 2;
    EXPECT_EQ(there_and_back(format, numbers, 256), numbers);
  }
}

TEST(Quantize, GroupsWithoutSpreadAreExactAndExtremesStayFinite) {
  for (const WeightFormat format : {WeightFormat::affine4, WeightFormat::affine8}) {
    EXPECT_EQ(there_and_back(format, std::vector<float>(64, 0.0f), 32), std::vector<float>(64, 0.0f));
    EXPECT_EQ(there_and_back(format, std::vector<float>(64, 1.5f), 32), std::vector<float>(64, 1.5f));
    for (const float size : {1e-38f, 1e-30f, 1e30f}) {
      SCOPED_TRACE(size);
      const std::vector<float> numbers = normal_numbers(64, size);
      for (const float x : there_and_back(format, numbers, 64)) EXPECT_TRUE(std::isfinite(x));
    }
  }
}

std::vector<float> e4m3_numbers() {
  const Tensor codes = host_tensor({1, 256}, DType::f8_e4m3);
  for (int i = 0; i < 256; ++i) codes.data<uint8_t>()[i] = static_cast<uint8_t>(i);
  std::vector<float> numbers(256);
  dequantize_rows(dense_weight(codes), 0, 1, numbers.data());
  return numbers;
}

TEST(Quantize, EveryE4m3NumberIsItself) {
  const std::vector<float> numbers = e4m3_numbers();
  for (size_t code = 0; code < numbers.size(); ++code)
    if (!std::isnan(numbers[code])) {
      EXPECT_EQ(to_e4m3(numbers[code]), code);
    }
}

TEST(Quantize, E4m3RoundsToTheNearestAndTiesToEven) {
  const std::vector<float> numbers = e4m3_numbers();
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float low = numbers[code], high = numbers[code + 1u], middle = (low + high) / 2;
    for (const float sign : {1.0f, -1.0f}) {
      const int bit = sign < 0 ? 0x80 : 0;
      EXPECT_EQ(to_e4m3(sign * std::nextafter(middle, 0.0f)), code | bit);
      EXPECT_EQ(to_e4m3(sign * std::nextafter(middle, 1000.0f)), (code + 1) | bit);
      EXPECT_EQ(to_e4m3(sign * middle), (code % 2 == 0 ? code : code + 1) | bit);
    }
  }
  for (const float x : {449.0f, 1e30f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(to_e4m3(x), 0x7e);
    EXPECT_EQ(to_e4m3(-x), 0xfe);
  }
}

}  // namespace
}  // namespace inkstone
