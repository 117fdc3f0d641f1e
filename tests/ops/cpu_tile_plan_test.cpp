// Products are cut so that any number of workers end together: a simulation, for machines that tests do not have.
#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>

#include "cpu/int8_product.h"
#include "ops/cpu_under_test.h"

namespace inkstone {
namespace {

constexpr int kMostThreads = 128;

/// A layer of the full-size transformer for a picture and 64 tokens of text.
std::vector<ProductSize> layer(int64_t img_rows, int64_t in, int64_t out, int64_t column_unit) {
  return {{img_rows, in, out, column_unit}, {64, in, out, column_unit}};
}

/// Those of a block: q, k and v, the attention's output, and the MLP's two, of which the first rounds its results.
std::vector<std::vector<ProductSize>> block(const Int8Ops& int8, int64_t img_rows) {
  const int64_t plain = int8_column_unit(int8, false), rounded = int8_column_unit(int8, true);
  return {layer(img_rows, 3072, 9216, plain), layer(img_rows, 3072, 3072, plain), layer(img_rows, 3072, 12288, rounded),
          layer(img_rows, 12288, 3072, plain)};
}

/// If each worker takes the next task as soon as it is free.
struct Simulated {
  double work = 0;    // multiply-adds
  double end = 0;     // when the last worker ends, in multiply-adds, if weights are packed already
  double packed = 0;  // the same if each task packs its own and copies its rows

  Simulated& operator+=(const Simulated& other) {
    work += other.work, end += other.end, packed += other.packed;
    return *this;
  }
};

Simulated simulate(const std::vector<ProductSize>& products, const TileLimits& limits, int threads) {
  std::vector<double> ends(static_cast<size_t>(threads)), packed = ends;
  Simulated result;
  for (const TileTask& task : plan_tiles(products, limits, threads)) {
    const auto rows = static_cast<double>(task.tile.rows()), columns = static_cast<double>(task.tile.columns());
    const auto in = static_cast<double>(products[task.product].in);
    result.work += rows * columns * in;
    *std::ranges::min_element(ends) += rows * columns * in;
    *std::ranges::min_element(packed) +=
        (rows * columns + static_cast<double>(kPackingRows) * (columns + rows / static_cast<double>(limits.packing))) *
        in;
  }
  result.end = *std::ranges::max_element(ends);
  result.packed = *std::ranges::max_element(packed);
  return result;
}

/// Of the 8-bit products of an instruction set.
class TilePlanTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "this processor lacks it";
    int8 = &int8_ops(GetParam());
    limits = int8_tile_limits(*int8);
  }
  const Int8Ops* int8 = nullptr;
  TileLimits limits;
};
INKSTONE_FOR_EVERY_ISA(TilePlanTest);

TEST_P(TilePlanTest, EveryResultIsInOneTile) {
  const std::vector<ProductSize> products = {{1000, 64, 100, 48}, {0, 64, 100, 48}, {3, 3072, 5000, 384}};
  for (const int threads : {1, 7, 96, 127, 128}) {
    std::vector<std::vector<int>> tiles;
    for (const ProductSize& p : products) tiles.emplace_back(static_cast<size_t>(p.rows * p.out));
    for (const TileTask& task : plan_tiles(products, limits, threads))
      for (int64_t row = task.tile.row_begin; row < task.tile.row_end; ++row)
        for (int64_t out = task.tile.out_begin; out < task.tile.out_end; ++out)
          ++tiles[task.product][static_cast<size_t>(row * products[task.product].out + out)];
    for (const std::vector<int>& of_product : tiles)
      EXPECT_TRUE(std::ranges::all_of(of_product, [](int n) { return n == 1; })) << threads << " threads";
  }
}

/// Prints a table: the share of all workers' time in which they multiply.
TEST_P(TilePlanTest, AnyNumberOfWorkersEndTogether) {
  for (const int64_t img_rows : {1024, 4096})
    for (int threads = 1; threads <= kMostThreads; ++threads) {
      Simulated all;
      std::string shares;
      for (const std::vector<ProductSize>& products : block(*int8, img_rows)) {
        const Simulated one = simulate(products, limits, threads);
        const double share = one.work / (one.end * threads);
        EXPECT_GT(share, threads <= 16 ? 0.92 : 0.89)
            << threads << " threads, " << products[0].in << " to " << products[0].out << ", " << img_rows << " rows";
        shares += fmt::format(" {:.3f}", share);
        all += one;
      }
      const double share = all.work / (all.end * threads), packed = all.work / (all.packed * threads);
      fmt::print("{:4} rows, {:3} workers: {:.3f} of their time, with packing {:.3f}; by layer{}\n", img_rows, threads,
                 share, packed, shares);
      EXPECT_GT(share, 0.9) << threads << " threads, " << img_rows << " rows";
      // Panels of fewer columns, as vectors of 32 bytes have them, are packed for fewer rows each.
      EXPECT_GT(packed, GetParam() == Isa::avx512 ? 0.75 : 0.73) << threads << " threads, " << img_rows << " rows";
    }
}

TEST_P(TilePlanTest, PlansAreKeptAndNotMixedUp) {
  TilePlans plans;
  constexpr TileLimits kOther = {.row_unit = 8, .most_rows = 384, .most_columns = 384};
  for (int round = 0; round < 2; ++round)
    for (const int threads : {1, 96})
      for (int64_t rows = 1; rows < 50; ++rows)
        for (const TileLimits& cut : {limits, kOther}) {
          const std::vector<ProductSize> products = {{rows, 3072, 3072, 48}};
          const std::vector<TileTask> expected = plan_tiles(products, cut, threads);
          EXPECT_TRUE(std::ranges::equal(
              plans.of(products, cut, threads), expected,
              [](auto& a, auto& b) { return a.tile.row_end == b.tile.row_end && a.tile.out_end == b.tile.out_end; }))
              << rows << " rows, " << threads << " threads";
        }
}

}  // namespace
}  // namespace inkstone
