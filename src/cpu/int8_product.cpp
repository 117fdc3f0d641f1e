#include "cpu/int8_product.h"

#include <algorithm>
#include <numeric>

#include "cpu/rounding.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

// Rows of a tile: rounding a panel of weights costs about as much as multiplying some 40 rows with it.
constexpr int64_t kMostRows = 2176;
constexpr int64_t kPanelBytes = 384;  // of an input in a panel of weights, which then fits the second cache
constexpr int64_t kAlignment = 64;    // bytes

int64_t strip_width(const Int8Ops& int8) { return int8.panel_vectors * int8.lanes; }

/// One task in one worker's memory.
class TileRunner {
 public:
  TileRunner(const Int8Product& product, const Tile& tile, const Int8Functions& functions)
      : p_(product.product),
        left_(product.left),
        t_(tile),
        vector_(functions.vector),
        int8_(functions.int8),
        columns_(round_up(tile.columns(), int8_.lanes)),
        depth_(std::min(int8_.most_depth, round_up(p_.weight->in, int8_.depth_unit))) {}

  /// In floats: codes of a panel, its scales, rows for the kernel, weights in the making.
  int64_t scratch() const { return (code_bytes() + scale_bytes() + strip_bytes() + weight_bytes()) / kFloat; }

  void run(float* memory) {
    std::byte* next = reinterpret_cast<std::byte*>(memory);
    panel_ = std::exchange(next, next + code_bytes());
    scales_ = reinterpret_cast<float*>(std::exchange(next, next + scale_bytes()));
    strip_ = std::exchange(next, next + strip_bytes());
    weights_ = reinterpret_cast<float*>(next);
    SequenceVectors gates(p_.epilogue->gate);
    for (int64_t begin = 0, end = 0; begin < p_.weight->in; begin = end) {
      end = std::min(begin + depth_, p_.weight->in);
      for (int64_t strip = 0; strip < columns_; strip += strip_width(int8_)) pack_strip(strip, begin, end);
      for (int64_t row = t_.row_begin; row < t_.row_end; row += int8_.tile_rows) {
        const int64_t rows = std::min(int8_.tile_rows, t_.row_end - row);
        multiply_rows(row, rows, begin, end);
        if (end == p_.weight->in) finish_rows(p_, {row, row + rows, t_.out_begin, t_.out_end}, vector_, gates);
      }
    }
  }

 private:
  static constexpr int64_t kFloat = sizeof(float);

  int64_t code_bytes() const { return round_up(columns_ * depth_ * int8_.code_bytes, kAlignment); }
  int64_t scale_bytes() const { return round_up(columns_ * divide_up(depth_, kInt8Group) * kFloat, kAlignment); }
  int64_t strip_bytes() const { return round_up(int8_.strip_bytes, kAlignment); }
  int64_t weight_bytes() const { return int8_.lanes * depth_ * kFloat; }

  /// Bytes from the panel's begin, and scales from theirs, to those of a strip for inputs up to `depth`.
  std::byte* panel_at(int64_t strip, int64_t depth) const { return panel_ + strip * depth * int8_.code_bytes; }
  float* scales_at(int64_t strip, int64_t depth) const { return scales_ + strip * divide_up(depth, kInt8Group); }

  void pack_strip(int64_t strip, int64_t begin, int64_t end) {
    const int64_t depth = end - begin;
    const int64_t padded = round_up(depth, int8_.depth_unit);
    const int64_t width = std::min(strip_width(int8_), columns_ - strip);
    for (int64_t i = 0; i < width; i += int8_.lanes) {
      const int64_t out = t_.out_begin + strip + i;
      const int64_t outputs = std::min(int8_.lanes, t_.out_end - out);
      for (int64_t o = 0; o < outputs; ++o) expand_row(vector_, *p_.weight, out + o, begin, end, weights_ + o * depth);
      for (int64_t group = 0; group < depth; group += kInt8Group)
        int8_.pack_lanes({.w = weights_ + group,
                          .stride = depth,
                          .outputs = outputs,
                          .depth = std::min(kInt8Group, depth - group),
                          .vectors = width / int8_.lanes,
                          .panel = panel_at(strip, padded) + (group * width + i * int8_.depth_unit) * int8_.code_bytes,
                          .scales = scales_at(strip, depth) + group / kInt8Group * width + i});
    }
  }

  void multiply_rows(int64_t row, int64_t rows, int64_t begin, int64_t end) {
    const int64_t depth = end - begin;
    const int64_t padded = round_up(depth, int8_.depth_unit);
    int8_.prepare_rows(left_.codes + row * left_.width + begin, left_.width, rows, depth, strip_);
    float* y = p_.y + p_.result.at(row) + t_.out_begin;
    for (int64_t strip = 0; strip < t_.columns(); strip += strip_width(int8_))
      int8_.multiply_tile({.rows = strip_,
                           .row_scales = left_.scales + row * left_.groups() + begin / kInt8Group,
                           .row_scales_stride = left_.groups(),
                           .panel = panel_at(strip, padded),
                           .panel_scales = scales_at(strip, depth),
                           .y = y + strip,
                           .y_stride = p_.result.stride,
                           .rows_count = rows,
                           .columns = std::min(strip_width(int8_), t_.columns() - strip),
                           .depth = depth,
                           .accumulate = begin > 0});
  }

  const MatrixProduct& p_;
  const Int8Rows& left_;
  const Tile& t_;
  const VectorOps& vector_;
  const Int8Ops& int8_;
  int64_t columns_;  // of the panel: whole vectors
  int64_t depth_;    // most of the panel
  std::byte* panel_ = nullptr;
  float* scales_ = nullptr;
  std::byte* strip_ = nullptr;
  float* weights_ = nullptr;
};

}  // namespace

int64_t int8_bytes(int64_t rows, int64_t width) {
  return round_up(rows * width, kAlignment) + rows * divide_up(width, kInt8Group) * static_cast<int64_t>(sizeof(float));
}

Int8Rows int8_rows(void* memory, int64_t rows, int64_t width) {
  auto* codes = static_cast<int8_t*>(memory);
  return {codes, reinterpret_cast<float*>(codes + round_up(rows * width, kAlignment)), width};
}

void run_products(std::span<const Int8Product> products, ThreadPool& pool, const Int8Functions& functions,
                  WorkerScratch& scratch) {
  const Int8Ops& int8 = functions.int8;
  std::vector<ProductSize> sizes;
  for (const Int8Product& p : products) sizes.push_back(p.product.size());
  const TileLimits limits = {.row_unit = int8.tile_rows,
                             .column_unit = std::lcm(strip_width(int8), kInt8Group),
                             .most_rows = kMostRows,
                             .most_columns = kPanelBytes / int8.code_bytes};
  const std::vector<TileTask> tasks = plan_tiles(sizes, limits, pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner(products[task.product], task.tile, functions);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

}  // namespace inkstone
