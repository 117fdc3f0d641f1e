// What diffusers and transformers computed for the models in tests/data (tools/make_fixtures.py), and how close is
// close.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "io/json.h"
#include "io/safetensors.h"
#include "relative_error.h"

namespace inkstone {

// Greatest relative L2 error in f32. The reference itself is up to 1e-5 away from the same arithmetic in f64
// (make_fixtures.py --precision): its time embedding has f32 angles of up to 1000 radians.
inline constexpr double kStageTolerance = 3e-5;
inline constexpr double kRunTolerance = 5e-5;
// The same where products have bf16 operands: each is off by up to 2^-8 (4e-3), a stage has some ten of them in a row.
inline constexpr double kNarrowStageTolerance = 2e-2;
// And where products of tolerant layers have operands of 8 bits: a product is off by 4e-2, and what
// a block adds to its input by that of a few.
inline constexpr double kFp8StageTolerance = 0.08;
inline constexpr double kInt8StageTolerance = 0.04;     // of mixed codes: 1e-2 and bf16's
inline constexpr double kNarrowEncodeTolerance = 5e-2;  // the VAE's encoder has thirty
inline constexpr double kNarrowRunTolerance = 5e-2;
inline constexpr double kNarrowDecibels = 35;

// Greatest shares of 8-bit values that are off by more than one level, and off at all: rounding may tip, but no level
// is lost throughout.
inline constexpr double kPixelOutliers = 1e-3;
inline constexpr double kPixelsOff = 1e-2;

inline std::filesystem::path test_data() { return INKSTONE_TEST_DATA; }

/// The folder of a model of make_fixtures.py.
inline std::filesystem::path test_model(const std::string& name) {
  return name == "tiny" ? std::filesystem::path(INKSTONE_MODELS) / "tiny" : test_data() / name;
}

/// The expected tensors of one model.
class Expected {
 public:
  explicit Expected(const std::string& model)
      : file_(read_safetensors(test_data() / "expected" / (model + ".safetensors"))),
        description_(JsonFile::read(test_data() / "expected" / (model + ".json"))) {}

  Tensor operator[](const std::string& name) const {
    const auto found = file_.tensors.find(name);
    if (found == file_.tensors.end()) throw std::runtime_error("no expected tensor " + name);
    return found->second.data;
  }

  /// The cases of a group, at least one.
  std::vector<nlohmann::json> cases(const std::string& group) const {
    std::vector<nlohmann::json> all = description_.array(group);
    if (all.empty()) throw std::runtime_error("no expected " + group);
    return all;
  }

 private:
  SafetensorsFile file_;
  JsonFile description_;
};

/// Holds a test's comparisons to a tolerance and tells the worst in --gtest_output, whether the test passes or not.
class ErrorLog {
 public:
  void expect_within(double error, double tolerance) {
    EXPECT_LE(error, tolerance);
    worst_ = std::max(worst_, error);
    ::testing::Test::RecordProperty("error", fmt::format("{:.1e}", worst_));
  }

 private:
  double worst_ = 0;
};

inline void expect_same_picture(std::span<const uint8_t> got, std::span<const uint8_t> expected) {
  ASSERT_EQ(got.size(), expected.size());
  double off = 0, outliers = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const int difference = std::abs(got[i] - expected[i]);
    off += difference > 0 ? 1 : 0;
    outliers += difference > 1 ? 1 : 0;
  }
  EXPECT_LE(off / static_cast<double>(got.size()), kPixelsOff);
  EXPECT_LE(outliers / static_cast<double>(got.size()), kPixelOutliers);
}

/// For pictures whose products had bf16 operands: peak signal-to-noise ratio.
inline void expect_like_picture(std::span<const uint8_t> got, std::span<const uint8_t> expected) {
  ASSERT_EQ(got.size(), expected.size());
  double squares = 0;
  for (size_t i = 0; i < got.size(); ++i) squares += std::pow(got[i] - expected[i], 2);
  const double mean = squares / static_cast<double>(got.size());
  EXPECT_GE(20 * std::log10(255) - 10 * std::log10(mean), kNarrowDecibels);
}

}  // namespace inkstone
