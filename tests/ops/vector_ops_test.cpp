// Every instruction set that this machine has, against f64.
#include "cpu/vector_ops.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

using Row = std::vector<float>;

// Shorter than a vector of any instruction set, just as long, one more, and long enough for unrolled loops.
constexpr int64_t kLengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 100, 255, 384};

Row random_row(int64_t n, unsigned seed, float low = -4, float high = 4) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  Row row(static_cast<size_t>(n));
  for (float& x : row) x = uniform(generator);
  return row;
}

/// A number of 8 bits by OCP's definition.
float fp8_value(WeightFormat format, int bits) {
  const bool e4m3 = format == WeightFormat::f8_e4m3;
  const int fraction_bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15, steps = 1 << fraction_bits;
  const int exponent = (bits & 127) >> fraction_bits, fraction = bits & (steps - 1);
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), 1 - bias - fraction_bits)
                                  : std::ldexp(static_cast<float>(steps + fraction), exponent - bias - fraction_bits);
  if (!e4m3 && exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  if (e4m3 && (bits & 127) == 127) magnitude = NAN;
  return bits < 128 ? magnitude : -magnitude;
}

/// A row for n results, with one number behind them that must stay as it is.
struct Output {
  explicit Output(int64_t n) : row(static_cast<size_t>(n) + 1, kGuard) {}
  ~Output() { EXPECT_EQ(row.back(), kGuard) << "written behind the end"; }
  float* data() { return row.data(); }
  float operator[](size_t i) const { return row[i]; }

  static constexpr float kGuard = 12345.0f;
  Row row;
};

double ulp(double value) {
  const float magnitude = std::max(static_cast<float>(std::abs(value)), std::numeric_limits<float>::min());
  return std::nextafter(magnitude, std::numeric_limits<float>::infinity()) - magnitude;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_exponent(double x) { return 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }
double activated(Activation activation, double x) {
  if (activation == Activation::silu) return x * sigmoid(x);
  if (activation == Activation::gelu_tanh) return x * sigmoid(gelu_exponent(x));
  return x;
}

/// The division, the addition and exp cost 4 ulp. gelu_tanh's exponent is a polynomial: its constants, x², the sum and
/// the product round by half an ulp each, and where x is negative the result is as sensitive to u as e^u is.
double activation_bound(Activation activation, double x) {
  const double growth = activation == Activation::gelu_tanh ? 4 * std::max(0.0, -gelu_exponent(x)) : 0;
  return (4 + growth) * ulp(activated(activation, x));
}

class VectorOpsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "this processor lacks it";
    ops = &vector_ops(GetParam());
  }
  const VectorOps* ops = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Isa, VectorOpsTest, testing::Values(Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512),
                         [](const auto& instance) { return name_of(instance.param); });

TEST_P(VectorOpsTest, KnowsItsName) { EXPECT_EQ(ops->isa, GetParam()); }

TEST_P(VectorOpsTest, SharesOfSquaresAreThoseOfPlainLoops) {
  for (const int64_t n : kLengths) {
    const Row x = random_row(n, 7);
    const double all = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    Row shares(static_cast<size_t>(n), 2.0f), of_plain = shares;
    ops->add_shares(x.data(), n, shares.data());
    vector_ops(Isa::scalar).add_shares(x.data(), n, of_plain.data());
    EXPECT_EQ(shares, of_plain) << n << ": not the same in every instruction set";
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(shares[i], 2 + x[i] * x[i] / all, 3e-7) << n;
  }
}

TEST_P(VectorOpsTest, RowsWithoutSizeHaveNoShares) {
  for (const float fault : {0.0f, std::nanf("")}) {
    Row x(70, 0.0f), shares(70, 2.0f);
    x[66] = fault;
    ops->add_shares(x.data(), 70, shares.data());
    EXPECT_EQ(shares, Row(70, 2.0f));
  }
}

TEST_P(VectorOpsTest, ExpIsWithinTwoUlp) {
  Row x;
  for (double v = -104.5; v < 88.7; v += 0.00173) x.push_back(static_cast<float>(v));
  const auto n = static_cast<int64_t>(x.size());
  Output y(n);
  ops->exp(x.data(), n, y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(y[i], expected, 2 * ulp(expected)) << "exp of " << x[i];
  }
}

TEST_P(VectorOpsTest, ExpOfExtremes) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Row x = {0, -0.0f, -infinity, infinity, 1000, -1000, 3e38f, -3e38f, std::nanf("")};
  Output y(9);
  ops->exp(x.data(), 9, y.data());
  const Row expected = {1, 1, 0, infinity, infinity, 0, infinity, 0};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(y[i], expected[i]) << "exp of " << x[i];
  EXPECT_TRUE(std::isnan(y[8]));
}

TEST_P(VectorOpsTest, ActivationsOfEveryMagnitude) {
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh}) {
    Row x;
    for (double v = -9; v < 9; v += 0.00037) x.push_back(static_cast<float>(v));
    for (float v = 1e-30f; v < 80; v *= 1.7f) x.insert(x.end(), {v, activation == Activation::silu ? -v : v});
    const auto n = static_cast<int64_t>(x.size());
    Output y(n);
    ops->epilogue(x.data(), {.activation = activation}, n, y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = activated(activation, x[i]);
      ASSERT_NEAR(y[i], expected, activation_bound(activation, x[i])) << "of " << x[i];
    }
  }
}

TEST_P(VectorOpsTest, ActivationsOfHugeNumbersAreLinearOrZero) {
  const Row x = {1e20f, -1e20f, 3e38f, -3e38f, 200, -200};
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh}) {
    Output y(6);
    ops->epilogue(x.data(), {.activation = activation}, 6, y.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], x[i] > 0 ? x[i] : 0) << x[i];
  }
}

TEST_P(VectorOpsTest, EpilogueWithEveryCombinationOfParts) {
  for (const int64_t n : kLengths) {
    const Row x = random_row(n, 1), bias = random_row(n, 2), gate = random_row(n, 3), residual = random_row(n, 4);
    for (int parts = 0; parts < 8; ++parts) {
      for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh}) {
        const RowEpilogue e = {.bias = (parts & 1) != 0 ? bias.data() : nullptr,
                               .activation = activation,
                               .gate = (parts & 2) != 0 ? gate.data() : nullptr,
                               .residual = (parts & 4) != 0 ? residual.data() : nullptr};
        Output y(n);
        ops->epilogue(x.data(), e, n, y.data());
        for (size_t i = 0; i < x.size(); ++i) {
          const double sum = x[i] + (e.bias != nullptr ? static_cast<double>(bias[i]) : 0);
          const double factor = e.gate != nullptr ? static_cast<double>(gate[i]) : 1;
          const double expected =
              activated(activation, sum) * factor + (e.residual != nullptr ? static_cast<double>(residual[i]) : 0);
          // |x| + |bias| <= 8, gelu' and silu' <= 1.13, |gate| <= 4, |residual| <= 4: every rounding is of a number
          // below 64, and the activation's bound is at most 8 ulp of a number below 8.
          ASSERT_NEAR(y[i], expected, 8 * ulp(32)) << "n " << n << " parts " << parts << " of " << x[i];
        }
      }
    }
  }
}

TEST_P(VectorOpsTest, PointwiseRows) {
  for (const int64_t n : kLengths) {
    const Row x = random_row(n, 1), y = random_row(n, 2), z = random_row(n, 3);
    Output gated(n), added(n), shifted(n);
    ops->swiglu(x.data(), y.data(), n, gated.data());
    ops->add_scaled(x.data(), y.data(), 0.37f, n, added.data());
    ops->scale_shift(x.data(), y.data(), z.data(), n, shifted.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double a = x[i], b = y[i], c = z[i];
      ASSERT_NEAR(gated[i], activated(Activation::silu, a) * b, 4 * (activation_bound(Activation::silu, a) + ulp(16)));
      ASSERT_NEAR(added[i], a + static_cast<double>(0.37f) * b, 2 * ulp(8));
      ASSERT_NEAR(shifted[i], a * b + c, 2 * ulp(32));
    }
  }
}

TEST_P(VectorOpsTest, Norms) {
  for (const int64_t n : kLengths) {
    // A mean far from zero shows a variance that cancels.
    const Row x = random_row(n, 1, 90, 110), y = random_row(n, 2), z = random_row(n, 3);
    const auto count = static_cast<double>(n);
    double squares = 0, sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double a = x[i];
      squares += a * a;
      sum += a;
    }
    const double mean = sum / count;
    double variance = 0;
    for (const float a : x) variance += (a - mean) * (a - mean) / count;

    Output rms(n), layer(n);
    ops->rms_norm(x.data(), y.data(), 1e-6f, Activation::silu, n, rms.data());
    ops->layer_norm_modulate(x.data(), y.data(), z.data(), 1e-3f, n, layer.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double a = x[i], b = y[i], c = z[i];
      const double normed = activated(Activation::silu, a / std::sqrt(squares / count + 1e-6) * b);
      ASSERT_NEAR(rms[i], normed, 16 * ulp(8)) << n;
      // The mean is rounded by an ulp of 128 or two, which the division by the deviation (at worst sqrt(eps)) enlarges.
      const double deviation = std::sqrt(variance + 1e-3);
      ASSERT_NEAR(layer[i], (a - mean) / deviation * (1 + b) + c, (4 * ulp(100) / deviation + 8 * ulp(2)) * 5) << n;
    }
  }
}

TEST_P(VectorOpsTest, RopeOfBothPairings) {
  for (const int64_t n : {2, 4, 6, 10, 16, 20, 34, 64, 128, 130}) {
    const Row x = random_row(n, 1);
    Row table(static_cast<size_t>(n));
    for (size_t k = 0; k < table.size() / 2; ++k) {
      table[2 * k] = std::cos(static_cast<float>(k) + 0.3f);
      table[2 * k + 1] = std::sin(static_cast<float>(k) + 0.3f);
    }
    Output neighbours(n), halves(n);
    ops->rope_neighbours(x.data(), table.data(), n, neighbours.data());
    ops->rope_halves(x.data(), table.data(), n, halves.data());
    const size_t half = table.size() / 2;
    for (size_t k = 0; k < half; ++k) {
      const double cosine = table[2 * k], sine = table[2 * k + 1];
      const auto expect = [&](const Output& y, size_t i, size_t j) {
        ASSERT_NEAR(y[i], x[i] * cosine - x[j] * sine, 2 * ulp(4)) << "n " << n << " pair " << k;
        ASSERT_NEAR(y[j], x[i] * sine + x[j] * cosine, 2 * ulp(4)) << "n " << n << " pair " << k;
      };
      expect(neighbours, 2 * k, 2 * k + 1);
      expect(halves, k, k + half);
    }
  }
}

TEST_P(VectorOpsTest, ExpandsEveryHalfExactly) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const auto same = [](float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; };
  for (const int64_t n : {65536, 65533}) {
    Output bf16(n), f16(n);
    const PackedRow row = {.blocks = reinterpret_cast<const uint8_t*>(bits.data())};
    ops->expander(WeightFormat::bf16)(row, n, bf16.data());
    ops->expander(WeightFormat::f16)(row, n, f16.data());
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      ASSERT_TRUE(same(bf16[i], to_float(bf16_t{bits[i]}))) << i;
      const float expected = to_float(f16_t{bits[i]});
      ASSERT_TRUE(std::isnan(expected) ? std::isnan(f16[i]) : same(f16[i], expected)) << i;
    }
  }
}

TEST_P(VectorOpsTest, ExpandsEveryFormatAsItIsDefined) {
  for (const WeightFormat format : every_weight_format()) {
    const int64_t n = 5 * random_unit(format);
    const Weight w = random_weight(format, 2, n, 3);
    Output expected(n), y(n);
    dequantize_rows(w, 1, 2, expected.data());
    expand_row(w, ops->expander, 1, 0, n, y.data());
    for (int64_t i = 0; i < n; ++i)
      ASSERT_EQ(std::memcmp(y.data() + i, expected.data() + i, sizeof(float)), 0)
          << layout_of(format).name << " " << i << ": " << y[static_cast<size_t>(i)];
    expand_row(w, ops->expander, 1, 2 * random_unit(format), 3 * random_unit(format), y.data());
    EXPECT_EQ(y[0], expected[static_cast<size_t>(2 * random_unit(format))]) << layout_of(format).name;
  }
}

TEST_P(VectorOpsTest, ExpandsEveryFp8Exactly) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  for (const WeightFormat format : {WeightFormat::f8_e4m3, WeightFormat::f8_e5m2})
    for (const float scale : {1.0f, 0.0123f, -3e30f, 1e-30f})
      for (const int64_t n : {256, 253}) {
        Output y(n);
        ops->expander(format)({.blocks = codes.data(), .scales = &scale, .group = 1000}, n, y.data());
        for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
          const float expected = scale * fp8_value(format, static_cast<int>(i));
          ASSERT_TRUE(std::isnan(expected) ? std::isnan(y[i])
                                           : std::memcmp(y.data() + i, &expected, sizeof expected) == 0)
              << layout_of(format).name << " " << i << ": " << y[i] << ", not " << expected;
        }
      }
}

TEST_P(VectorOpsTest, ExpandsAffineGroupsExactly) {
  for (const int bits : {4, 8}) {
    for (const int64_t group : {8, 24, 32, 64, 128}) {
      const int64_t n = 3 * group, codes = 32 / bits;
      std::mt19937 generator(7);
      std::vector<uint32_t> words(static_cast<size_t>(n / codes));
      for (uint32_t& w : words) w = static_cast<uint32_t>(generator());
      const Row scale = random_row(3, 1), offset = random_row(3, 2);
      Output y(n);
      ops->expander(bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8)(
          {.blocks = reinterpret_cast<const uint8_t*>(words.data()),
           .scales = scale.data(),
           .offsets = offset.data(),
           .group = group},
          n, y.data());
      for (int64_t i = 0; i < n; ++i) {
        const uint32_t word = words[static_cast<size_t>(i / codes)];
        const uint32_t code = (word >> (bits * (i % codes))) & ((1u << bits) - 1);
        const auto g = static_cast<size_t>(i / group);
        const float product = scale[g] * static_cast<float>(code);
        ASSERT_EQ(y[static_cast<size_t>(i)], product + offset[g]) << bits << " bits, group " << group << ", " << i;
      }
    }
  }
}

TEST_P(VectorOpsTest, RowsMayBeTheirOwnResult) {
  const int64_t n = 37;
  Row x = random_row(n, 1);
  const Row bias = random_row(n, 2);
  Output y(n);
  ops->epilogue(x.data(), {.bias = bias.data(), .activation = Activation::gelu_tanh}, n, y.data());
  ops->epilogue(x.data(), {.bias = bias.data(), .activation = Activation::gelu_tanh}, n, x.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], y[i]);
}

TEST(VectorOps, PicksTheBestAndRefusesWhatTheProcessorLacks) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512}) {
    if (supports(isa)) {
      EXPECT_GE(vector_ops().isa, isa);
    } else {
      EXPECT_THROW(vector_ops(isa), Error);
    }
  }
}

}  // namespace
}  // namespace inkstone
