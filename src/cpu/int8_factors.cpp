#include "cpu/int8_factors.h"

#include <algorithm>
#include <cmath>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr int64_t kRowsOfTask = 64;
constexpr int64_t kSampled = 8;       // of so many tasks one tells enough of a layer that is used too seldom for more
constexpr double kMostHalvings = 10;  // weights that are zero would ask for any number

/// The sum over a weight's outputs of each input's share of an output's squares, added to `sums` in the same order
/// always. Shares, as an output has scales of its own: a few with large weights must not speak for all. `every`: how
/// many tasks one stands for.
void add_squares(const Weight& w, int64_t every, ThreadPool& pool, const VectorOps& vector, std::vector<double>& sums) {
  const auto in = static_cast<size_t>(w.in);
  const int64_t tasks = divide_up(divide_up(w.out, kRowsOfTask), every);
  std::vector<std::vector<float>> of_task(static_cast<size_t>(tasks), std::vector<float>(in));
  pool.run(tasks, [&](int64_t task, int) {
    std::vector<float>& squares = of_task[static_cast<size_t>(task)];
    std::vector<float> row(in);
    const int64_t first = task * every * kRowsOfTask;
    for (int64_t o = first; o < std::min(w.out, first + kRowsOfTask); ++o) {
      expand_row(w, vector.expander, o, 0, w.in, row.data());
      vector.add_shares(row.data(), w.in, squares.data());
    }
  });
  for (const std::vector<float>& squares : of_task)
    for (size_t i = 0; i < in; ++i) sums[i] += squares[i];
}

bool same(const Tensor& a, const Tensor& b) {
  return a && b && std::ranges::equal(a.span<const float>(), b.span<const float>());
}

}  // namespace

bool has_factors(const Linear& layer) {
  const Tensor& first = layer.slabs.front().weight.factors;
  return std::ranges::all_of(layer.slabs, [&](const Slab& slab) { return same(slab.weight.factors, first); });
}

Int8Factors int8_factors(const Linear& layer, ThreadPool& pool, const VectorOps& vector) {
  if (has_factors(layer)) {
    const auto stored = layer.slabs.front().weight.factors.span<const float>();
    Int8Factors factors = {.of_input = {stored.begin(), stored.end()}, .of_file = true};
    for (const float factor : stored) factors.of_weight.push_back(1 / factor);
    return factors;
  }
  std::vector<double> squares(static_cast<size_t>(layer.in()));
  const int64_t every = layer.tolerance->often_used ? 1 : kSampled;
  for (const Slab& slab : layer.slabs) add_squares(slab.weight, every, pool, vector, squares);
  std::vector<double> sorted = squares;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  Int8Factors factors;
  for (const double square : squares) {
    const double halvings = std::round(std::log2(*middle / square) / 2);
    const double bounded = std::isnan(halvings) ? 0 : std::clamp(halvings, -kMostHalvings, kMostHalvings);
    factors.of_input.push_back(std::exp2(-static_cast<float>(bounded)));
    factors.of_weight.push_back(1 / factors.of_input.back());
  }
  return factors;
}

}  // namespace inkstone
