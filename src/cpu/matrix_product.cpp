#include "cpu/matrix_product.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/rounding.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kMostRows = 1088;    // of a tile
constexpr int64_t kMostColumns = 384;  // of a tile: its panel of weights fits the second cache
constexpr int64_t kMostPlaces = 384;   // of a panel's depth: rows of a tile and what it reads fit the first cache

/// The length of partial sums, in inputs: equal parts of a run.
int64_t depth_of(const Factors& f) {
  const int64_t unit = std::lcm(input_unit(*f.weight), f.ops->inputs);
  return std::min(even_side(f.left->run(), kMostPlaces * f.ops->inputs, unit), f.weight->in);
}

/// One task in one worker's memory.
class TileRunner {
 public:
  TileRunner(const MatrixProduct& product, const Tile& tile, const VectorOps& vector, const ThreadPool& pool)
      : p_(product), t_(tile), vector_(vector), pool_(pool), columns_(tile.columns()), width_(strip_width(vector)) {
    factors_ = {{product.left, product.weight, product.ops}};
    factors_.insert(factors_.end(), product.added.begin(), product.added.end());
    for (Factors& f : factors_) {
      if (f.ops == nullptr) f.ops = &vector.panel;
      most_places_ = std::max(most_places_, divide_up(depth_of(f), f.ops->inputs));
      row_numbers_ = std::max(row_numbers_, row_numbers(vector, *f.ops, depth_of(f)));
    }
  }

  int64_t scratch() const { return panel_numbers() + scale_numbers() + copy_numbers() + row_numbers_; }

  void run(float* memory) {
    panel_.panel = memory;
    panel_.scales = panel_.panel + panel_numbers();
    copy_ = panel_.scales + scale_numbers();
    panel_.rows = copy_ + copy_numbers();
    SequenceVectors gates(p_.epilogue->gate);
    for (const Factors& f : factors_) multiply(f, gates);
  }

 private:
  int64_t scale_numbers() const { return round_up(columns_, width_); }
  int64_t panel_numbers() const { return scale_numbers() * most_places_; }
  int64_t copy_numbers() const { return vector_.tile_rows * most_places_; }

  /// Adds one product of the sum; the last one's last panel finishes the rows.
  void multiply(const Factors& f, SequenceVectors& gates) {
    const int64_t in = f.weight->in, run = f.left->run(), depth = depth_of(f);
    const bool is_last = &f == &factors_.back();
    left_ = f.left;
    ops_ = f.ops;
    for (int64_t begin = 0, end = 0; begin < in; begin = end) {
      pool_.check_stop();
      end = std::min(begin + depth, (begin / run + 1) * run);
      pack_panel(vector_, *ops_, *f.weight, {t_.out_begin, t_.out_end, begin, end}, panel_);
      for (LeftRange strip = strip_at(t_.row_begin, begin, end); strip.rows > 0;) {
        const LeftRange next = strip_at(strip.row + strip.rows, begin, end);
        prefetch_weights(*f.weight, strip, std::min(end + depth, in));
        multiply_strip(strip, next);
        if (is_last && end == in)
          finish_rows(p_, {strip.row, strip.row + strip.rows, t_.out_begin, t_.out_end}, vector_, gates);
        strip = next;
      }
      started_ = true;
    }
  }

  /// What the next panel is packed from comes while this one is at work, a share with each strip: all of it at once
  /// would wait for the memory.
  void prefetch_weights(const Weight& weight, const LeftRange& strip, int64_t end) const {
    const auto output_at = [&](int64_t row) { return t_.out_begin + (row - t_.row_begin) * columns_ / t_.rows(); };
    for (int64_t o = output_at(strip.row); o < output_at(strip.row + strip.rows); ++o)
      prefetch_row(weight, o, strip.end, end);
  }

  /// As many rows as a tile takes, within the task and a line of the result; none at the task's end.
  LeftRange strip_at(int64_t row, int64_t begin, int64_t end) const {
    const int64_t line_end = (row / p_.result.rows_of_line + 1) * p_.result.rows_of_line;
    return {row, std::min({vector_.tile_rows, line_end - row, t_.row_end - row}), begin, end};
  }

  int64_t places_of(const LeftRange& range) const { return divide_up(range.depth(), ops_->inputs); }

  /// Tiles read all their rows, so fewer ones are copied.
  RowView rows_of(const LeftRange& strip) {
    if (strip.rows == vector_.tile_rows)
      if (const RowView view = left_->in_place(strip); view.data != nullptr) return view;
    left_->copy(strip, copy_);
    const int64_t places = places_of(strip), missing = vector_.tile_rows - strip.rows;
    std::memset(copy_ + strip.rows * places, 0, static_cast<size_t>(missing * places) * sizeof(float));
    return {copy_, places};
  }

  /// The rows of the next strip come while this one is at work.
  void multiply_strip(const LeftRange& strip, const LeftRange& next) {
    const RowView rows = rows_of(strip);
    float* y = p_.y + p_.result.at(strip.row) + t_.out_begin;
    const int64_t tiles = divide_up(columns_, width_), places = places_of(strip);
    const float* scales = left_->scales();
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t fetch = i * next.rows / tiles;
      left_->prefetch({next.row + fetch, (i + 1) * next.rows / tiles - fetch, next.begin, next.end});
      ops_->multiply_tile({.x = rows.data,
                           .x_stride = rows.stride,
                           .panel = panel_.panel + i * width_ * places,
                           .y = y + i * width_,
                           .y_stride = p_.result.stride,
                           .rows = strip.rows,
                           .columns = std::min(width_, columns_ - i * width_),
                           .depth = places,
                           .accumulate = started_,
                           .row_scales = scales == nullptr ? nullptr : scales + strip.row,
                           .panel_scales = panel_.scales + i * width_});
    }
  }

  const MatrixProduct& p_;
  const Tile& t_;
  const VectorOps& vector_;
  const ThreadPool& pool_;
  int64_t columns_;               // of the tile
  int64_t width_;                 // of a strip of the panel
  std::vector<Factors> factors_;  // of all products of the sum
  int64_t most_places_ = 0;       // of a panel's depth
  int64_t row_numbers_ = 0;       // that packing a panel takes
  bool started_ = false;          // the result holds a partial sum
  const LeftMatrix* left_ = nullptr;
  const PanelOps* ops_ = nullptr;
  PanelMemory panel_;
  float* copy_ = nullptr;
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
  const std::vector<TileTask>& tasks = scratch.plans().of(sizes, limits, pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner(products[task.product], task.tile, vector, pool);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

}  // namespace inkstone
