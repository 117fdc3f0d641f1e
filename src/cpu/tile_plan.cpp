#include "cpu/tile_plan.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr int64_t kPackingRows = 40;  // packing a panel costs about as much as multiplying so many rows with it
constexpr double kEnough = 0.85;      // of the workers' time; the rest is packing and waiting for the last
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

std::vector<TileTask> cut(std::span<const ProductSize> products, const TileLimits& limits, int64_t most_work) {
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

/// When the last worker ends, in multiply-adds of one.
int64_t end_of(std::span<const TileTask> tasks, std::span<const ProductSize> products, int threads) {
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> ends;
  for (int i = 0; i < threads; ++i) ends.push(0);
  int64_t last = 0;
  for (const TileTask& task : tasks) {
    const int64_t end =
        ends.top() + (task.tile.rows() + kPackingRows) * task.tile.columns() * products[task.product].in;
    ends.pop();
    ends.push(end);
    last = std::max(last, end);
  }
  return last;
}

}  // namespace

int64_t even_side(int64_t n, int64_t most, int64_t unit) {
  return round_up(divide_up(n, divide_up(n, std::max(most, unit))), unit);
}

std::vector<TileTask> plan_tiles(std::span<const ProductSize> products, const TileLimits& limits, int threads) {
  int64_t work = 0;
  for (const ProductSize& p : products) work += p.rows * p.in * p.out;
  int64_t most_work = std::max(kLeastTask, work / (threads * limits.tasks_per_worker));
  std::vector<TileTask> tasks = cut(products, limits, most_work);
  int64_t end = end_of(tasks, products, threads);
  // Many workers find too few tasks of the best shape: narrower ones cost more work and end earlier.
  TileLimits narrower = limits;
  while (static_cast<double>(work) < kEnough * static_cast<double>(end * threads) && most_work > kLeastTask) {
    most_work = std::max(kLeastTask, most_work / 2);
    narrower.packing = std::max<int64_t>(1, narrower.packing / 2);
    std::vector<TileTask> other = cut(products, narrower, most_work);
    if (const int64_t other_end = end_of(other, products, threads); other_end < end) {
      end = other_end;
      tasks = std::move(other);
    }
  }
  return tasks;
}

}  // namespace inkstone
