#include "cpu/tile_plan.h"

#include <algorithm>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr int64_t kLeastTask = int64_t{4} << 20;  // multiply-adds; smaller tiles spend too much on packing

struct TileSides {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// A side is halved until a tile is small enough: packing costs 1 / rows and reading the left 1 / columns.
TileSides tile_sides(const ProductSize& p, const TileLimits& limits, int64_t most_work) {
  TileSides most = {limits.most_rows, limits.most_columns};
  while (true) {
    const TileSides sides = {even_side(p.rows, most.rows, limits.row_unit),
                             even_side(p.out, most.columns, p.column_unit)};
    const bool cut_rows = sides.rows > limits.packing * sides.columns && sides.rows > limits.row_unit;
    if (sides.rows * sides.columns * p.in <= most_work || (!cut_rows && sides.columns <= p.column_unit)) return sides;
    if (cut_rows)
      most.rows = sides.rows / 2;
    else
      most.columns = sides.columns / 2;
  }
}

}  // namespace

int64_t even_side(int64_t n, int64_t most, int64_t unit) {
  return round_up(divide_up(n, divide_up(n, std::max(most, unit))), unit);
}

std::vector<TileTask> plan_tiles(std::span<const ProductSize> products, const TileLimits& limits, int threads) {
  int64_t work = 0;
  for (const ProductSize& p : products) work += p.rows * p.in * p.out;
  const int64_t most_work = std::max(kLeastTask, work / (threads * limits.tasks_per_worker));

  std::vector<TileTask> tasks;
  for (size_t i = 0; i < products.size(); ++i) {
    const ProductSize& p = products[i];
    if (p.rows == 0) continue;
    const TileSides sides = tile_sides(p, limits, most_work);
    for (int64_t column = 0; column < p.out; column += sides.columns)
      for (int64_t row = 0; row < p.rows; row += sides.rows)
        tasks.push_back(
            {i, {row, std::min(row + sides.rows, p.rows), column, std::min(column + sides.columns, p.out)}});
  }
  std::stable_sort(tasks.begin(), tasks.end(), [](const TileTask& a, const TileTask& b) {
    return a.tile.rows() * a.tile.columns() > b.tile.rows() * b.tile.columns();
  });
  return tasks;
}

}  // namespace inkstone
