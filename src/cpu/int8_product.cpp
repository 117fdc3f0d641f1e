#include "cpu/int8_product.h"

#include <algorithm>
#include <numeric>

#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "cpu/int8_tile_rows.h"

namespace inkstone {
namespace {

// Rows of a tile: so many that packing its panel of weights, which takes as long as kPackingRows of them, is little.
constexpr int64_t kMostRows = 2176;
constexpr int64_t kTasksPerWorker = 4;  // fewer and wider than elsewhere: narrow tiles read the rows too often
constexpr int64_t kPacking = 8;         // beside copying a number of a row
constexpr int64_t kPanelBytes = 192;    // of an input in a panel of weights, which then fits the second cache

/// Weights of a term on their way into panels.
struct TermPacker {
  TermPacker(const Int8Term& of, const Int8Functions& functions)
      : term(&of), packer(functions, *of.weight, of.factors), depth(panel_depth(functions.int8, of.weight->in)) {}

  const Int8Term* term;
  Int8Packer packer;
  int64_t depth;  // of a panel
};

/// One task in one worker's memory.
class TileRunner {
 public:
  TileRunner(const Int8Product& product, const Tile& tile, const Int8Functions& functions, const ThreadPool& pool)
      : whole_(product),
        p_(product.product),
        t_(tile),
        vector_(functions.vector),
        int8_(functions.int8),
        pool_(pool),
        tile_rows_(functions.int8) {
    for (const Int8Term& term : product.added) terms_.emplace_back(term, functions);
    terms_.emplace_back(product.main, functions);
  }

  /// In floats: rows for the kernel, results in the making, the panel and weights on their way to it.
  int64_t scratch() const {
    int64_t packing = 0;
    for (const TermPacker& t : terms_)
      if (t.term->packed == nullptr) packing = std::max(packing, panel_bytes(t) / kFloat + t.packer.room());
    return (strip_bytes() + result_bytes()) / kFloat + packing;
  }

  void run(float* memory) {
    strip_ = reinterpret_cast<std::byte*>(memory);
    if (result_bytes() > 0) keep_result_in(reinterpret_cast<float*>(strip_ + strip_bytes()));
    SequenceVectors gates(p_.epilogue->gate);
    for (const TermPacker& t : terms_) multiply(t, gates);
  }

 private:
  static constexpr int64_t kFloat = sizeof(float);

  int64_t panel_bytes(const TermPacker& t) const { return Int8Panel::bytes(int8_, t_.columns(), t.depth); }
  int64_t strip_bytes() const { return round_up(int8_.strip_bytes, kLineBytes); }

  /// Of results that are rounded before they leave the tile.
  int64_t result_bytes() const {
    return whole_.rounded.codes == nullptr ? 0 : round_up(t_.rows() * t_.columns() * kFloat, kLineBytes);
  }
  void keep_result_in(float* memory) {
    p_.result.stride = t_.columns();
    p_.result.first = -t_.row_begin * t_.columns() - t_.out_begin;
    p_.y = memory;
  }

  /// Adds one term of the sum; the last one's last panel finishes the rows.
  void multiply(const TermPacker& t, SequenceVectors& gates) {
    const int64_t in = t.term->weight->in;
    const bool is_last = &t == &terms_.back();
    std::byte* for_panel = strip_ + strip_bytes() + result_bytes();
    for (int64_t begin = 0, end = 0; begin < in; begin = end) {
      pool_.check_stop();
      end = std::min(begin + t.depth, in);
      const Int8Panel panel = panel_of(t, begin, end, for_panel);
      for (int64_t row = t_.row_begin; row < t_.row_end; row += int8_.tile_rows) {
        const int64_t rows = std::min(int8_.tile_rows, t_.row_end - row);
        multiply_rows(t.term->left, panel, row, rows);
        if (is_last && end == in) finish(row, rows, gates);
      }
      started_ = true;
    }
  }

  Int8Panel panel_of(const TermPacker& t, int64_t begin, int64_t end, std::byte* memory) const {
    if (t.term->packed != nullptr) return t.term->packed->panels[static_cast<size_t>(begin / t.depth)];
    const Int8Panel panel(int8_, {t_.out_begin, t_.out_end, begin, end}, memory);
    t.packer.pack(panel, reinterpret_cast<float*>(memory + panel_bytes(t)));
    return panel;
  }

  void multiply_rows(const Int8Rows& rows_of_all, const Int8Panel& panel, int64_t row, int64_t rows) {
    const int64_t begin = panel.range().in_begin, end = panel.range().in_end, depth = end - begin;
    const Int8Target left = rows_of_all.at(row, begin);
    const bool in_place = int8_.reads_codes && rows == int8_.tile_rows && depth % int8_.depth_unit == 0;
    if (!in_place) int8_.prepare_rows(left.codes, rows_of_all.stride(), rows, depth, strip_);
    tile_rows_.gather({left.scales, left.sums, rows_of_all.groups()}, rows, divide_up(depth, kInt8Group));
    float* y = p_.y + p_.result.at(row) + t_.out_begin;
    for (int64_t strip = 0; strip < t_.columns(); strip += strip_width(int8_))
      int8_.multiply_tile({.rows = in_place ? static_cast<const void*>(left.codes) : strip_,
                           .rows_stride = in_place ? rows_of_all.stride() : int8_.strip_stride,
                           .row_scales = tile_rows_.scales(),
                           .row_sums = tile_rows_.sums(),
                           .panel = panel.codes(t_.out_begin + strip),
                           .panel_scales = panel.scales(t_.out_begin + strip),
                           .panel_columns = panel.stored_columns(t_.out_begin + strip),
                           .y = y + strip,
                           .y_stride = p_.result.stride,
                           .rows_count = rows,
                           .columns = std::min(strip_width(int8_), t_.columns() - strip),
                           .depth = depth,
                           .accumulate = started_,
                           .next = next_rows(rows_of_all, row + rows, strip, begin)});
  }

  /// The share of the rows behind a tile that its strip fetches; what belongs to them is little and comes at once.
  Int8Next next_rows(const Int8Rows& left, int64_t row, int64_t strip, int64_t in_begin) const {
    const auto row_at = [&](int64_t column) {
      return std::min(row + std::min(column, t_.columns()) * int8_.tile_rows / t_.columns(), t_.row_end);
    };
    const int64_t from = row_at(strip), to = row_at(strip + strip_width(int8_));
    if (from == to) return {};
    for (int64_t next = from; next < to; ++next) {
      const Int8Target of_row = left.at(next, in_begin);
      __builtin_prefetch(of_row.scales);
      __builtin_prefetch(of_row.sums);
    }
    return {left.at(from, in_begin).codes, left.stride(), to - from};
  }

  /// The epilogue, and rounding for the layer that reads the result.
  void finish(int64_t row, int64_t rows, SequenceVectors& gates) {
    finish_rows(p_, {row, row + rows, t_.out_begin, t_.out_end}, vector_, gates);
    if (whole_.rounded.codes == nullptr) return;
    const float* factors = whole_.next == nullptr ? nullptr : whole_.next->of_input.data() + t_.out_begin;
    for (int64_t r = row; r < row + rows; ++r)
      int8_.quantize({p_.y + p_.result.at(r) + t_.out_begin, factors}, t_.columns(),
                     whole_.rounded.at(r, t_.out_begin));
  }

  const Int8Product& whole_;
  MatrixProduct p_;
  const Tile& t_;
  const VectorOps& vector_;
  const Int8Ops& int8_;
  const ThreadPool& pool_;
  std::vector<TermPacker> terms_;  // of the sum
  Int8TileRows tile_rows_;
  bool started_ = false;  // the result holds a partial sum
  std::byte* strip_ = nullptr;
};

}  // namespace

Int8Target Int8Rows::at(int64_t row, int64_t column) const {
  const int64_t group = row * groups() + column / kInt8Group;
  return {codes + row * stride() + column, scales + group, sums + group};
}

int64_t int8_bytes(int64_t rows, int64_t width) {
  const auto group = static_cast<int64_t>(sizeof(float) + sizeof(int32_t));
  return rows * int8_stride(width) + rows * divide_up(width, kInt8Group) * group;
}

Int8Rows int8_rows(void* memory, int64_t rows, int64_t width) {
  Int8Rows all = {.codes = static_cast<int8_t*>(memory), .width = width};
  all.scales = reinterpret_cast<float*>(all.codes + rows * all.stride());
  all.sums = reinterpret_cast<int32_t*>(all.scales + rows * all.groups());
  return all;
}

int64_t int8_column_unit(const Int8Ops& int8, bool rounded) {
  return rounded ? std::lcm(strip_width(int8), kInt8Group) : strip_width(int8);
}

TileLimits int8_tile_limits(const Int8Ops& int8) {
  return {.row_unit = int8.tile_rows,
          .most_rows = kMostRows,
          .most_columns = kPanelBytes / int8.code_bytes,
          .tasks_per_worker = kTasksPerWorker,
          .packing = kPacking};
}

int64_t rounded_tile_bytes(const Int8Ops& int8, int64_t rows, int64_t outputs) {
  const int64_t columns = std::max(kPanelBytes / int8.code_bytes, int8_column_unit(int8, true));
  return std::min(rows, kMostRows) * std::min(outputs, columns) * static_cast<int64_t>(sizeof(float));
}

void run_products(std::span<const Int8Product> products, ThreadPool& pool, const Int8Functions& functions,
                  WorkerScratch& scratch) {
  const Int8Ops& int8 = functions.int8;
  std::vector<ProductSize> sizes;
  for (const Int8Product& p : products)
    sizes.push_back(p.product.size(int8_column_unit(int8, p.rounded.codes != nullptr)));
  const std::vector<TileTask>& tasks = scratch.plans().of(sizes, int8_tile_limits(int8), pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner(products[task.product], task.tile, functions, pool);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

}  // namespace inkstone
