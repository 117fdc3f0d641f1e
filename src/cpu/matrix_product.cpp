#include "cpu/matrix_product.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kMostRows = 1088;    // of a tile
constexpr int64_t kMostColumns = 384;  // of a tile: its panel of weights fits the second cache
constexpr int64_t kMostDepth = 384;    // of a panel: rows of a tile and what it reads fit the first cache

/// The length of partial sums: equal parts of a run.
int64_t depth_of(const Factors& f) {
  return std::min(even_side(f.left->run(), kMostDepth, input_unit(*f.weight)), f.weight->in);
}

/// One task in one worker's memory.
class TileRunner {
 public:
  TileRunner(const MatrixProduct& product, const Tile& tile, const VectorOps& vector, const ThreadPool& pool)
      : p_(product), t_(tile), vector_(vector), pool_(pool), columns_(tile.columns()), width_(strip_width(vector)) {
    factors_ = {{product.left, product.weight}};
    factors_.insert(factors_.end(), product.added.begin(), product.added.end());
    for (const Factors& f : factors_) most_depth_ = std::max(most_depth_, depth_of(f));
  }

  int64_t scratch() const { return panel_numbers() + copy_numbers() + expanded_numbers(vector_, most_depth_); }

  void run(float* memory) {
    panel_ = memory;
    copy_ = panel_ + panel_numbers();
    expanded_ = copy_ + copy_numbers();
    SequenceVectors gates(p_.epilogue->gate);
    for (const Factors& f : factors_) multiply(f, gates);
  }

 private:
  int64_t panel_numbers() const { return round_up(columns_, width_) * most_depth_; }
  int64_t copy_numbers() const { return vector_.tile_rows * most_depth_; }

  /// Adds one product of the sum; the last one's last panel finishes the rows.
  void multiply(const Factors& f, SequenceVectors& gates) {
    const int64_t in = f.weight->in, run = f.left->run(), depth = depth_of(f);
    const bool is_last = &f == &factors_.back();
    left_ = f.left;
    for (int64_t begin = 0, end = 0; begin < in; begin = end) {
      pool_.check_stop();
      end = std::min(begin + depth, (begin / run + 1) * run);
      pack_panel(vector_, *f.weight, {t_.out_begin, t_.out_end, begin, end}, expanded_, panel_);
      for (LeftRange strip = strip_at(t_.row_begin, begin, end); strip.rows > 0;) {
        const LeftRange next = strip_at(strip.row + strip.rows, begin, end);
        multiply_strip(strip, next);
        if (is_last && end == in)
          finish_rows(p_, {strip.row, strip.row + strip.rows, t_.out_begin, t_.out_end}, vector_, gates);
        strip = next;
      }
      started_ = true;
    }
  }

  /// As many rows as a tile takes, within the task and a line of the result; none at the task's end.
  LeftRange strip_at(int64_t row, int64_t begin, int64_t end) const {
    const int64_t line_end = (row / p_.result.rows_of_line + 1) * p_.result.rows_of_line;
    return {row, std::min({vector_.tile_rows, line_end - row, t_.row_end - row}), begin, end};
  }

  /// Tiles read all their rows, so fewer ones are copied.
  RowView rows_of(const LeftRange& strip) {
    if (strip.rows == vector_.tile_rows)
      if (const RowView view = left_->in_place(strip); view.data != nullptr) return view;
    left_->copy(strip, copy_);
    const int64_t missing = vector_.tile_rows - strip.rows;
    std::memset(copy_ + strip.rows * strip.depth(), 0, static_cast<size_t>(missing * strip.depth()) * sizeof(float));
    return {copy_, strip.depth()};
  }

  /// The rows of the next strip come while this one is at work.
  void multiply_strip(const LeftRange& strip, const LeftRange& next) {
    const RowView rows = rows_of(strip);
    float* y = p_.y + p_.result.at(strip.row) + t_.out_begin;
    const int64_t tiles = divide_up(columns_, width_);
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t fetch = i * next.rows / tiles;
      left_->prefetch({next.row + fetch, (i + 1) * next.rows / tiles - fetch, next.begin, next.end});
      vector_.multiply_tile({.x = rows.data,
                             .x_stride = rows.stride,
                             .panel = panel_ + i * width_ * strip.depth(),
                             .y = y + i * width_,
                             .y_stride = p_.result.stride,
                             .rows = strip.rows,
                             .columns = std::min(width_, columns_ - i * width_),
                             .depth = strip.depth(),
                             .accumulate = started_});
    }
  }

  const MatrixProduct& p_;
  const Tile& t_;
  const VectorOps& vector_;
  const ThreadPool& pool_;
  int64_t columns_;               // of the tile
  int64_t width_;                 // of a strip of the panel
  std::vector<Factors> factors_;  // of all products of the sum
  int64_t most_depth_ = 0;        // of a panel
  bool started_ = false;          // the result holds a partial sum
  const LeftMatrix* left_ = nullptr;
  float* panel_ = nullptr;
  float* copy_ = nullptr;
  float* expanded_ = nullptr;
};

}  // namespace

void finish_rows(const MatrixProduct& p, const Tile& tile, const VectorOps& vector, SequenceVectors& gates) {
  const Epilogue& e = *p.epilogue;
  int64_t at = p.result.at(tile.row_begin) + tile.out_begin;
  for (int64_t row = tile.row_begin; row < tile.row_end; ++row, at += p.result.stride) {
    const RowEpilogue here = {.bias = p.bias == nullptr ? nullptr : p.bias + tile.out_begin,
                              .activation = e.activation,
                              .gate = e.gate ? gates.at(row) + p.gate_column + tile.out_begin : nullptr,
                              .residual = e.residual ? e.residual.data<const float>() + at : nullptr};
    vector.epilogue(p.y + at, here, tile.columns(), p.y + at);
  }
}

void run_products(std::span<const MatrixProduct> products, ThreadPool& pool, const VectorOps& vector,
                  WorkerScratch& scratch) {
  std::vector<ProductSize> sizes;
  for (const MatrixProduct& p : products) sizes.push_back(p.size(strip_width(vector)));
  const TileLimits limits = {.row_unit = vector.tile_rows, .most_rows = kMostRows, .most_columns = kMostColumns};
  const std::vector<TileTask> tasks = plan_tiles(sizes, limits, pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner(products[task.product], task.tile, vector, pool);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

}  // namespace inkstone
