#include "cpu/tile_plan.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr double kEnough = 0.97;                  // of the workers' time; the rest is waiting for the last
constexpr int64_t kLeastTask = int64_t{4} << 20;  // multiply-adds; smaller tiles spend too much on packing
constexpr int64_t kMostShares = 4;                // of a worker's time, to which tiles are cut
constexpr int64_t kShareSteps = 64;               // by which a share grows until all of them hold everything
constexpr int64_t kNarrower = 8;                  // times: panels narrower than that are not worth a try
constexpr size_t kKeptPlans = 64;                 // some ten sizes of products in each stage of a picture

struct TileSides {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// Tasks and how long they take, in multiply-adds of one worker.
struct TilePlan {
  std::vector<TileTask> tasks;
  int64_t cost = 0;  ///< of all tasks
  int64_t end = 0;   ///< when the last worker ends
};

/// Products for so many workers.
struct TileProblem {
  std::span<const ProductSize> products;
  const TileLimits& limits;
  int64_t threads = 1;

  /// Of so many rows and columns of a product: packing costs 1 / rows of it and reading the left 1 / columns.
  int64_t cost(const ProductSize& p, int64_t rows, int64_t columns) const {
    return (rows * columns + kPackingRows * columns + kPackingRows * rows / limits.packing) * p.in;
  }
  int64_t cost(const TileTask& task) const {
    return cost(products[task.product], task.tile.rows(), task.tile.columns());
  }
};

/// A side is halved until a tile is small enough.
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

/// Every product in equal tiles.
std::vector<TileTask> cut_evenly(const TileProblem& problem, int64_t most_work) {
  std::vector<TileTask> tasks;
  for (size_t i = 0; i < problem.products.size(); ++i) {
    const ProductSize& p = problem.products[i];
    if (p.rows == 0) continue;
    const TileSides sides = tile_sides(p, problem.limits, most_work);
    for (int64_t column = 0; column < p.out; column += sides.columns)
      for (int64_t row = 0; row < p.rows; row += sides.rows)
        tasks.push_back(
            {i, {row, std::min(row + sides.rows, p.rows), column, std::min(column + sides.columns, p.out)}});
  }
  return tasks;
}

/// Rows of `columns` columns that cost so much, in whole units.
int64_t rows_for(const TileProblem& problem, const ProductSize& p, int64_t columns, int64_t cost) {
  const int64_t packing = kPackingRows * columns * p.in;
  const int64_t row = (columns + divide_up(kPackingRows, problem.limits.packing)) * p.in;
  const int64_t unit = problem.limits.row_unit;
  return std::min(std::max<int64_t>(0, cost - packing) / row / unit * unit, problem.limits.most_rows);
}

/// Panels of at most so many columns, one behind the other, in `shares` that each cost `share` or less: a tile ends
/// where its share or its panel does. Nothing if they are too few.
std::vector<TileTask> cut_in_shares(const TileProblem& problem, int64_t most_columns, int64_t shares, int64_t share) {
  std::vector<TileTask> tasks;
  int64_t left = share;
  for (size_t i = 0; i < problem.products.size(); ++i) {
    const ProductSize& p = problem.products[i];
    const int64_t columns = even_side(p.out, most_columns, p.column_unit);
    for (int64_t column = 0; column < p.out; column += columns) {
      const int64_t column_end = std::min(column + columns, p.out);
      for (int64_t row = 0; row < p.rows;) {
        const int64_t rows = std::min(rows_for(problem, p, column_end - column, left), p.rows - row);
        if (rows > 0) {
          tasks.push_back({i, {row, row + rows, column, column_end}});
          left -= problem.cost(tasks.back());
          row += rows;
        } else if (left == share || --shares == 0) {
          return {};
        } else {
          left = share;
        }
      }
    }
  }
  return tasks;
}

/// The smallest shares that are enough.
std::vector<TileTask> cut_in_shares(const TileProblem& problem, int64_t most_columns, int64_t shares) {
  int64_t work = 0;
  for (const ProductSize& p : problem.products) work += p.rows * p.in * p.out;
  const int64_t least = divide_up(work, shares);
  for (int64_t step = 0; step < kShareSteps; ++step) {
    std::vector<TileTask> tasks =
        cut_in_shares(problem, most_columns, shares, least + least * step / (kShareSteps / 2));
    if (!tasks.empty()) return tasks;
  }
  return {};
}

/// Large tasks first; each worker takes the next one as soon as it is free.
TilePlan planned(const TileProblem& problem, std::vector<TileTask> tasks) {
  TilePlan plan = {.tasks = std::move(tasks)};
  std::ranges::stable_sort(plan.tasks, std::greater<>(), [&](const TileTask& task) { return problem.cost(task); });
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> ends;
  for (int64_t i = 0; i < problem.threads; ++i) ends.push(0);
  for (const TileTask& task : plan.tasks) {
    const int64_t end = ends.top() + problem.cost(task);
    ends.pop();
    ends.push(end);
    plan.cost += problem.cost(task);
    plan.end = std::max(plan.end, end);
  }
  return plan;
}

}  // namespace

int64_t even_side(int64_t n, int64_t most, int64_t unit) {
  return round_up(divide_up(n, divide_up(n, std::max(most, unit))), unit);
}

std::vector<TileTask> plan_tiles(std::span<const ProductSize> products, const TileLimits& limits, int threads) {
  const TileProblem problem = {products, limits, threads};
  int64_t work = 0;
  for (const ProductSize& p : products) work += p.rows * p.in * p.out;
  const int64_t most_work = std::max(kLeastTask, work / (threads * limits.tasks_per_worker));
  TilePlan best = planned(problem, cut_evenly(problem, most_work));
  if (static_cast<double>(best.cost) >= kEnough * static_cast<double>(best.end * threads)) return best.tasks;
  // Many workers find too few tasks of the best shape, or a number that they do not divide.
  for (int64_t columns = limits.most_columns; columns > limits.most_columns / kNarrower; columns /= 2)
    for (int64_t shares = kMostShares; shares > 0; --shares) {
      TilePlan other = planned(problem, cut_in_shares(problem, columns, shares * threads));
      if (!other.tasks.empty() && other.end < best.end) best = std::move(other);
    }
  return best.tasks;
}

const std::vector<TileTask>& TilePlans::of(std::span<const ProductSize> products, const TileLimits& limits,
                                           int threads) {
  const auto found = std::ranges::find_if(plans_, [&](const Plan& plan) {
    return plan.threads == threads && plan.limits == limits && std::ranges::equal(plan.products, products);
  });
  if (found != plans_.end()) return found->tasks;
  Plan plan = {{products.begin(), products.end()}, limits, threads, plan_tiles(products, limits, threads)};
  if (plans_.size() < kKeptPlans) return plans_.emplace_back(std::move(plan)).tasks;
  Plan& place = plans_[oldest_];
  oldest_ = (oldest_ + 1) % kKeptPlans;
  place = std::move(plan);
  return place.tasks;
}

}  // namespace inkstone
