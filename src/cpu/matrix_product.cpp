#include "cpu/matrix_product.h"

#include <algorithm>
#include <cstring>

#include "cpu/rounding.h"
#include "cpu/sequence_vectors.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kTasksPerWorker = 8;            // enough that the last ones end together
constexpr int64_t kLeastTask = int64_t{4} << 20;  // multiply-adds; smaller tiles spend too much on packing
constexpr int64_t kMostRows = 1088;               // of a tile
constexpr int64_t kMostColumns = 384;             // of a tile: its panel of weights fits the second cache
constexpr int64_t kDepth = 384;                   // of a panel, and the length of a partial sum

/// Rows and outputs of one product.
struct TileTask {
  size_t product = 0;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t out_begin = 0;
  int64_t out_end = 0;

  int64_t area() const { return (row_end - row_begin) * (out_end - out_begin); }
};

/// The side of equal blocks of at most `most` that `n` divides into.
int64_t even_side(int64_t n, int64_t most, int64_t unit) {
  return round_up(divide_up(n, divide_up(n, std::max(most, unit))), unit);
}

struct TileSides {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// The longer side is halved until a tile is small enough: packing costs 1 / rows and reading the left 1 / columns.
TileSides tile_sides(const MatrixProduct& p, const VectorOps& vector, int64_t most_work) {
  const int64_t unit = strip_width(vector);
  TileSides most = {kMostRows, kMostColumns};
  while (true) {
    const TileSides sides = {even_side(p.rows, most.rows, vector.tile_rows),
                             even_side(p.weight->out, most.columns, unit)};
    const bool cut_rows = sides.rows > sides.columns && sides.rows > vector.tile_rows;
    if (sides.rows * sides.columns * p.weight->in <= most_work || (!cut_rows && sides.columns <= unit)) return sides;
    if (cut_rows)
      most.rows = sides.rows / 2;
    else
      most.columns = sides.columns / 2;
  }
}

/// Large tiles first, so that small ones fill the gaps at the end.
std::vector<TileTask> plan(std::span<const MatrixProduct> products, const VectorOps& vector, int threads) {
  int64_t work = 0;
  for (const MatrixProduct& p : products) work += p.rows * p.weight->in * p.weight->out;
  const int64_t most_work = std::max(kLeastTask, work / (threads * kTasksPerWorker));

  std::vector<TileTask> tasks;
  for (size_t i = 0; i < products.size(); ++i) {
    const int64_t rows = products[i].rows, out = products[i].weight->out;
    if (rows == 0) continue;
    const TileSides sides = tile_sides(products[i], vector, most_work);
    for (int64_t column = 0; column < out; column += sides.columns)
      for (int64_t row = 0; row < rows; row += sides.rows)
        tasks.push_back({i, row, std::min(row + sides.rows, rows), column, std::min(column + sides.columns, out)});
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const TileTask& a, const TileTask& b) { return a.area() > b.area(); });
  return tasks;
}

int64_t depth_of(const Weight& weight) { return std::min(weight.in, round_up(kDepth, input_unit(weight))); }

/// One task in one worker's memory.
class TileRunner {
 public:
  TileRunner(const MatrixProduct& product, const TileTask& task, const VectorOps& vector)
      : p_(product),
        t_(task),
        vector_(vector),
        columns_(task.out_end - task.out_begin),
        width_(strip_width(vector)),
        depth_(depth_of(*product.weight)) {}

  int64_t scratch() const { return panel_numbers() + strip_numbers() + expanded_numbers(vector_, depth_); }

  void run(float* memory) {
    panel_ = memory;
    strip_ = panel_ + panel_numbers();
    float* expanded = strip_ + strip_numbers();
    const int64_t in = p_.weight->in;
    SequenceVectors gates(p_.epilogue->gate);
    for (int64_t begin = 0; begin < in; begin += depth_) {
      const int64_t end = std::min(begin + depth_, in);
      pack_panel(vector_, *p_.weight, {t_.out_begin, t_.out_end, begin, end}, expanded, panel_);
      for (int64_t row = t_.row_begin; row < t_.row_end; row += vector_.tile_rows) {
        const int64_t rows = std::min(vector_.tile_rows, t_.row_end - row);
        read_strip(row, rows, begin, end);
        multiply_strip(row, rows, begin, end);
        if (end == in) finish(row, rows, gates);
      }
    }
  }

 private:
  int64_t panel_numbers() const { return round_up(columns_, width_) * depth_; }
  int64_t strip_numbers() const { return vector_.tile_rows * depth_; }
  float* result(int64_t row) const { return p_.y + row * p_.y_stride + p_.first_column + t_.out_begin; }

  /// Copied, as rows that lie a multiple of 4096 bytes apart would drive each other out of the first cache.
  void read_strip(int64_t row, int64_t rows, int64_t begin, int64_t end) {
    const int64_t depth = end - begin;
    for (int64_t i = 0; i < rows; ++i) p_.left->read(row + i, begin, end, strip_ + i * depth);
    const int64_t missing = vector_.tile_rows - rows;
    std::memset(strip_ + rows * depth, 0, static_cast<size_t>(missing * depth) * sizeof(float));
  }

  void multiply_strip(int64_t row, int64_t rows, int64_t begin, int64_t end) {
    const int64_t depth = end - begin;
    const int64_t strips = divide_up(columns_, width_);
    for (int64_t i = 0; i < strips; ++i) {
      const int64_t next = row + vector_.tile_rows;  // its rows come while this strip is at work
      const int64_t fetch_end = std::min(next + (i + 1) * vector_.tile_rows / strips, t_.row_end);
      for (int64_t r = next + i * vector_.tile_rows / strips; r < fetch_end; ++r) p_.left->prefetch(r, begin, end);
      vector_.multiply_tile({.x = strip_,
                             .x_stride = depth,
                             .panel = panel_ + i * width_ * depth,
                             .y = result(row) + i * width_,
                             .y_stride = p_.y_stride,
                             .rows = rows,
                             .columns = std::min(width_, columns_ - i * width_),
                             .depth = depth,
                             .accumulate = begin > 0});
    }
  }

  void finish(int64_t row, int64_t rows, SequenceVectors& gates) {
    const int64_t column = p_.first_column + t_.out_begin;
    const Epilogue& e = *p_.epilogue;
    for (int64_t i = row; i < row + rows; ++i) {
      const RowEpilogue here = {
          .bias = p_.bias == nullptr ? nullptr : p_.bias + t_.out_begin,
          .activation = e.activation,
          .gate = e.gate ? gates.at(i) + column : nullptr,
          .residual = e.residual ? e.residual.data<const float>() + i * p_.y_stride + column : nullptr};
      vector_.epilogue(result(i), here, columns_, result(i));
    }
  }

  const MatrixProduct& p_;
  const TileTask& t_;
  const VectorOps& vector_;
  int64_t columns_;  // of the tile
  int64_t width_;    // of a strip of the panel
  int64_t depth_;    // of a panel
  float* panel_ = nullptr;
  float* strip_ = nullptr;
};

}  // namespace

void run_products(std::span<const MatrixProduct> products, ThreadPool& pool, const VectorOps& vector,
                  WorkerScratch& scratch) {
  const std::vector<TileTask> tasks = plan(products, vector, pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner(products[task.product], task, vector);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

}  // namespace inkstone
