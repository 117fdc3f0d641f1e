// Products are cut so that any number of workers end together: a simulation, for machines that tests do not have.
#include <algorithm>
#include <gtest/gtest.h>

#include "cpu/tile_plan.h"

namespace inkstone {
namespace {

// Those of 8-bit products with AVX-512 VNNI.
constexpr TileLimits kLimits = {
    .row_unit = 8, .most_rows = 2176, .most_columns = 192, .tasks_per_worker = 4, .packing = 8};

/// A layer of the full-size transformer for a picture and 64 tokens of text.
std::vector<ProductSize> layer(int64_t img_rows, int64_t in, int64_t out, int64_t column_unit) {
  return {{img_rows, in, out, column_unit}, {64, in, out, column_unit}};
}

const std::vector<ProductSize> kLayers[] = {layer(1024, 3072, 9216, 48), layer(1024, 3072, 3072, 48),
                                            layer(1024, 3072, 12288, 384), layer(1024, 12288, 3072, 48),
                                            layer(4096, 3072, 12288, 384)};

double work_of(const TileTask& task, const std::vector<ProductSize>& products) {
  return static_cast<double>(task.tile.rows() * task.tile.columns() * products[task.product].in);
}

/// Share of the workers' time in which they multiply, if each takes the next task as soon as it is free.
double efficiency(const std::vector<ProductSize>& products, int threads) {
  std::vector<double> ends(static_cast<size_t>(threads));
  double work = 0;
  for (const TileTask& task : plan_tiles(products, kLimits, threads)) {
    work += work_of(task, products);
    *std::min_element(ends.begin(), ends.end()) += work_of(task, products);
  }
  return work / (*std::max_element(ends.begin(), ends.end()) * threads);
}

TEST(TilePlanTest, EveryResultIsInOneTile) {
  const std::vector<ProductSize> products = {{1000, 64, 100, 48}, {0, 64, 100, 48}, {3, 3072, 5000, 384}};
  for (const int threads : {1, 7, 128}) {
    std::vector<std::vector<int>> tiles;
    for (const ProductSize& p : products) tiles.emplace_back(static_cast<size_t>(p.rows * p.out));
    for (const TileTask& task : plan_tiles(products, kLimits, threads))
      for (int64_t row = task.tile.row_begin; row < task.tile.row_end; ++row)
        for (int64_t out = task.tile.out_begin; out < task.tile.out_end; ++out)
          ++tiles[task.product][static_cast<size_t>(row * products[task.product].out + out)];
    for (const std::vector<int>& of_product : tiles)
      EXPECT_TRUE(std::ranges::all_of(of_product, [](int n) { return n == 1; })) << threads << " threads";
  }
}

TEST(TilePlanTest, AnyNumberOfWorkersEndTogether) {
  for (const std::vector<ProductSize>& products : kLayers)
    for (const int threads : {1, 2, 3, 8, 16, 32, 64, 128})
      EXPECT_GT(efficiency(products, threads), threads <= 16 ? 0.92 : 0.8)
          << threads << " threads, " << products[0].rows << " rows, " << products[0].in << " to " << products[0].out;
}

}  // namespace
}  // namespace inkstone
