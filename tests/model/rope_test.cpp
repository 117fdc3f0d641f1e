// Positions as QwenEmbedRope of diffusers counts them, read back from the tables: the first pair of every axis turns by
// one radian a position.
#include "model/rope.h"

#include <cmath>
#include <gtest/gtest.h>

namespace inkstone {
namespace {

constexpr std::array<int64_t, 3> kAxes = {16, 56, 56};  // of Qwen-Image
constexpr int64_t kFramePair = 0;
constexpr int64_t kRowPair = 16 / 2;
constexpr int64_t kColumnPair = (16 + 56) / 2;
constexpr double kAngleTolerance = 1e-5;  // f32 angles of up to 100 radians

void expect_angle(const Tensor& table, int64_t row, int64_t pair, double angle) {
  const float* cos_sin = table.data<const float>() + (row * table.dim(1) + pair) * 2;
  EXPECT_NEAR(cos_sin[0], std::cos(angle), kAngleTolerance) << "row " << row << ", pair " << pair;
  EXPECT_NEAR(cos_sin[1], std::sin(angle), kAngleTolerance) << "row " << row << ", pair " << pair;
}

void expect_position(const Tensor& table, int64_t row, double frame, double y, double x) {
  expect_angle(table, row, kFramePair, frame);
  expect_angle(table, row, kRowPair, y);
  expect_angle(table, row, kColumnPair, x);
}

TEST(RopeTest, EvenGridsAreCentred) {
  const Grid grid = {.height = 64, .width = 32};
  const Tensor table = image_rope(grid, 1, kAxes);
  ASSERT_EQ(table.shape(), (Shape{64 * 32, 64, 2}));
  for (int64_t r = 0; r < 64; ++r)
    for (int64_t c = 0; c < 32; ++c)
      expect_position(table, r * 32 + c, 0, static_cast<double>(r - 32), static_cast<double>(c - 16));
}

TEST(RopeTest, OddGridsHaveTheExtraRowAndColumnOnTheNegativeSide) {
  const Grid grid = {.height = 83, .width = 69};
  const Tensor table = image_rope(grid, 1, kAxes);
  for (int64_t r = 0; r < 83; ++r)
    for (int64_t c = 0; c < 69; ++c)
      expect_position(table, r * 69 + c, 0, static_cast<double>(r - 42), static_cast<double>(c - 35));
}

TEST(RopeTest, EveryPictureOfABatchHasTheSamePositions) {
  const Grid grid = {.height = 3, .width = 5};
  const Tensor two = image_rope(grid, 2, kAxes);
  for (int64_t i = 0; i < grid.tokens(); ++i) {
    const double y = static_cast<double>(i / 5 - 2), x = static_cast<double>(i % 5 - 3);
    expect_position(two, i, 0, y, x);
    expect_position(two, grid.tokens() + i, 0, y, x);
  }
}

TEST(RopeTest, FrequenciesFallWithinEachAxis) {
  const Tensor table = image_rope({.height = 2, .width = 2}, 1, kAxes);
  for (int64_t k = 0; k < 28; ++k) {
    const double omega = std::pow(10000.0, -2.0 * static_cast<double>(k) / 56);
    expect_angle(table, 0, kRowPair + k, -omega);
    expect_angle(table, 0, kColumnPair + k, -omega);
  }
}

TEST(RopeTest, TextStartsAtHalfOfTheLargerSideInEverySequence) {
  const struct {
    Grid grid;
    int64_t start;
  } cases[] = {
      {{.height = 83, .width = 83}, 41}, {{.height = 32, .width = 32}, 16}, {{.height = 58, .width = 104}, 52}};
  const std::vector<int64_t> lengths = {4, 2};
  for (const auto& c : cases) {
    const Tensor table = text_rope(Sequences(lengths), c.grid, kAxes);
    ASSERT_EQ(table.dim(0), 6);
    for (int64_t row = 0; row < 6; ++row) {
      const auto p = static_cast<double>(c.start + (row < 4 ? row : row - 4));
      expect_position(table, row, p, p, p);
    }
  }
}

TEST(RopeTest, TextEncoderCountsFromZeroInEverySequence) {
  const std::vector<int64_t> lengths = {3, 40};
  const Tensor table = text_encoder_rope(Sequences(lengths), 128, 1e6);
  ASSERT_EQ(table.shape(), (Shape{43, 64, 2}));
  for (int64_t row = 0; row < 43; ++row)
    for (int64_t k = 0; k < 64; ++k) {
      const auto position = static_cast<double>(row < 3 ? row : row - 3);
      expect_angle(table, row, k, position * std::pow(1e6, -2.0 * static_cast<double>(k) / 128));
    }
}

}  // namespace
}  // namespace inkstone
