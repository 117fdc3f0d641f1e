#include "cpu/int8_conv.h"

#include <algorithm>
#include <utility>

#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "cpu/int8_pictures.h"
#include "cpu/int8_tile_rows.h"

namespace inkstone {
namespace {

constexpr int64_t kMostRows = 2048;          // of a tile
constexpr int64_t kKernelBytes = 704 << 10;  // of a tile's kernels, which stay in the second cache

/// Taps side by side of one plane, whose kernels lie one behind the other.
struct TapRun {
  size_t plane = 0;
  int64_t line = 0;  // of the kernel
  int64_t tap = 0;
  int64_t taps = 0;
  int64_t group = 0;         // of all, its first tap
  int64_t codes_before = 0;  // of an output
};

/// What one kind of pixels reads, in the order of the sums. A tile of an instruction set that prepares its rows takes
/// so many inputs at a time.
std::vector<TapRun> tap_runs(const std::vector<Int8Plane>& planes, const PixelKind& kind, const Int8Ops& int8) {
  std::vector<TapRun> runs;
  int64_t group = 0, before = 0;
  for (size_t p = 0; p < planes.size(); ++p) {
    const int64_t most = int8.reads_codes ? kind.across.taps : std::max<int64_t>(1, int8.most_depth / planes[p].stride);
    for (int64_t line = 0; line < kind.down.taps; ++line)
      for (int64_t tap = 0; tap < kind.across.taps; tap += most) {
        const int64_t taps = std::min(most, kind.across.taps - tap);
        runs.push_back({p, line, tap, taps, group, before});
        group += taps;
        before += taps * round_up(planes[p].depth, int8.depth_unit);
      }
  }
  return runs;
}

/// The kernel of one kind in 8 bits: of each strip of outputs first all codes, group by group, then their scales. It
/// lies in bytes() that keep_in() gives it.
class Int8Kernel {
 public:
  Int8Kernel(const std::vector<Int8Plane>& planes, const PixelKind& kind, const Int8Functions& functions)
      : planes_(planes), kind_(kind), functions_(functions), runs_(tap_runs(planes, kind, functions.int8)) {
    const TapRun& last = runs_.back();
    groups_ = last.group + last.taps;
    depth_ = last.codes_before + last.taps * round_up(planes[last.plane].depth, functions.int8.depth_unit);
  }

  int64_t bytes() const { return round_up(columns() * output_bytes(), kLineBytes); }
  void keep_in(std::byte* memory) { memory_ = memory; }

  const std::vector<TapRun>& runs() const { return runs_; }
  int64_t output_bytes() const {
    return depth_ * functions_.int8.code_bytes + groups_ * static_cast<int64_t>(sizeof(float));
  }
  int64_t vectors() const { return divide_up(kind_.kernel.out, functions_.int8.lanes); }

  /// Codes and scales from a run on, of the strip that begins at an output.
  const std::byte* codes(int64_t out, const TapRun& run) const {
    return strip(out) + run.codes_before * strip_columns(out) * functions_.int8.code_bytes;
  }
  const float* scales(int64_t out, const TapRun& run) const { return scales(out) + run.group * strip_columns(out); }

  /// Rounds the weights of one vector of outputs. `room` is of room() numbers.
  void pack(int64_t vector, float* room) const;
  int64_t room() const { return functions_.int8.lanes * kInt8MostGroup; }

 private:
  int64_t columns() const { return vectors() * functions_.int8.lanes; }
  int64_t strip_columns(int64_t out) const { return std::min(strip_width(functions_.int8), columns() - out); }
  std::byte* strip(int64_t out) const { return memory_ + out * output_bytes(); }
  float* scales(int64_t out) const {
    return reinterpret_cast<float*>(strip(out) + depth_ * strip_columns(out) * functions_.int8.code_bytes);
  }

  const std::vector<Int8Plane>& planes_;
  const PixelKind& kind_;
  const Int8Functions& functions_;
  std::vector<TapRun> runs_;
  int64_t groups_ = 0;  // of inputs
  int64_t depth_ = 0;   // in codes
  std::byte* memory_ = nullptr;
};

void Int8Kernel::pack(int64_t vector, float* room) const {
  const Int8Ops& int8 = functions_.int8;
  const Weight& kernel = kind_.kernel;
  const int64_t out = vector * int8.lanes, outputs = std::min(int8.lanes, kernel.out - out);
  const int64_t first = out / strip_width(int8) * strip_width(int8), width = strip_columns(first);
  const int64_t channels = kernel.in / (kind_.down.taps * kind_.across.taps);
  for (const TapRun& run : runs_) {
    const Int8Plane& plane = planes_[run.plane];
    for (int64_t tap = 0; tap < run.taps; ++tap) {
      const int64_t from = (run.line * kind_.across.taps + run.tap + tap) * channels + plane.first;
      for (int64_t o = 0; o < outputs; ++o)
        expand_row(kernel, functions_.vector.expander, out + o, from, from + plane.depth, room + o * plane.depth);
      const int64_t before = run.codes_before + tap * round_up(plane.depth, int8.depth_unit);
      int8.pack_lanes({.w = room,
                       .stride = plane.depth,
                       .outputs = outputs,
                       .depth = plane.depth,
                       .vectors = width / int8.lanes,
                       .panel = strip(first) + (before * width + (out - first) * int8.depth_unit) * int8.code_bytes,
                       .scales = scales(first) + (run.group + tap) * width + out - first});
    }
  }
}

/// One task in one worker's memory.
class TileRunner {
 public:
  struct Source {
    const Int8Pictures& pictures;
    const PixelKind& kind;
    const Int8Kernel& kernel;
    const MatrixProduct& product;
  };

  TileRunner(const Source& source, const Tile& tile, const Int8Functions& functions)
      : s_(source), t_(tile), vector_(functions.vector), int8_(functions.int8), tile_rows_(functions.int8) {}

  int64_t scratch() const { return divide_up(int8_.strip_bytes, static_cast<int64_t>(sizeof(float))); }

  void run(float* memory) {
    SequenceVectors gates(s_.product.epilogue->gate);
    const int64_t columns = s_.kind.columns;
    for (int64_t row = t_.row_begin, end = 0; row < t_.row_end; row = end) {
      end = std::min({row + int8_.tile_rows, (row / columns + 1) * columns, t_.row_end});
      bool is_first = true;
      for (const TapRun& run : s_.kernel.runs()) {
        multiply(run, row, end - row, is_first, memory);
        is_first = false;
      }
      finish_rows(s_.product, {row, end, t_.out_begin, t_.out_end}, vector_, gates);
    }
  }

 private:
  /// The picture's pixel under a run's first tap.
  int64_t pixel_of(int64_t row, const TapRun& run) const {
    const PixelKind& k = s_.kind;
    const int64_t line = row / k.columns, column = row % k.columns;
    return s_.pictures.pixel(line / k.lines, line % k.lines * k.down.step + k.down.first + run.line,
                             column * k.across.step + k.across.first + run.tap);
  }

  void multiply(const TapRun& run, int64_t row, int64_t rows, bool is_first, float* memory) {
    const Int8Plane& plane = s_.pictures.planes()[run.plane];
    const int64_t pixel = pixel_of(row, run), step = s_.kind.across.step;
    const int8_t* codes = plane.codes + pixel * plane.stride;
    if (!int8_.reads_codes) int8_.prepare_rows(codes, step * plane.stride, rows, run.taps * plane.stride, memory);
    tile_rows_.gather({plane.scales + pixel, plane.sums + pixel, step}, rows, run.taps);
    float* y = s_.product.y + s_.product.result.at(row);
    for (int64_t out = t_.out_begin; out < t_.out_end; out += strip_width(int8_))
      int8_.multiply_tile({.rows = int8_.reads_codes ? static_cast<const void*>(codes) : memory,
                           .rows_stride = int8_.reads_codes ? step * plane.stride : int8_.strip_stride,
                           .row_scales = tile_rows_.scales(),
                           .row_sums = tile_rows_.sums(),
                           .panel = s_.kernel.codes(out, run),
                           .panel_scales = s_.kernel.scales(out, run),
                           .y = y + out,
                           .y_stride = s_.product.result.stride,
                           .rows_count = rows,
                           .columns = std::min(strip_width(int8_), t_.out_end - out),
                           .depth = run.taps * plane.depth,
                           .accumulate = !is_first,
                           .group = plane.depth,
                           .group_stride = plane.stride});
  }

  Source s_;
  const Tile& t_;
  const VectorOps& vector_;
  const Int8Ops& int8_;
  Int8TileRows tile_rows_;
};

}  // namespace

void run_int8_convolution(const Int8Convolution& c, ThreadPool& pool, const Int8Functions& functions,
                          WorkerScratch& scratch) {
  const Int8Ops& int8 = functions.int8;
  Int8Pictures pictures(c.x);
  std::vector<Int8Kernel> kernels;
  int64_t bytes = Int8Pictures::bytes(c.x.shape());
  for (const PixelKind& kind : c.kinds) bytes += kernels.emplace_back(pictures.planes(), kind, functions).bytes();
  std::byte* memory = scratch.shared(static_cast<size_t>(bytes));
  pictures.round(std::exchange(memory, memory + Int8Pictures::bytes(c.x.shape())), pool, int8);
  for (Int8Kernel& kernel : kernels) kernel.keep_in(std::exchange(memory, memory + kernel.bytes()));
  const int64_t vectors = kernels.front().vectors();
  pool.run(vectors * static_cast<int64_t>(kernels.size()), [&](int64_t task, int worker) {
    const Int8Kernel& kernel = kernels[static_cast<size_t>(task / vectors)];
    kernel.pack(task % vectors, scratch.floats(worker, kernel.room()));
  });

  std::vector<ProductSize> sizes;
  for (const MatrixProduct& p : c.products) sizes.push_back(p.size(strip_width(int8)));
  const int64_t columns = kKernelBytes / kernels.front().output_bytes();
  const TileLimits limits = {
      .row_unit = int8.tile_rows,
      .most_rows = kMostRows,
      .most_columns = std::max(strip_width(int8), columns / strip_width(int8) * strip_width(int8))};
  const std::vector<TileTask>& tasks = scratch.plans().of(sizes, limits, pool.threads());
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const TileTask& task = tasks[static_cast<size_t>(index)];
    TileRunner runner({pictures, c.kinds[task.product], kernels[task.product], c.products[task.product]}, task.tile,
                      functions);
    runner.run(scratch.floats(worker, runner.scratch()));
  });
}

size_t int8_convolution_bytes(const Int8Ops& int8, const Shape& x, const Conv2d& conv) {
  const int64_t sides = conv.upsampling / conv.stride > 1 ? 4 : kKernelSide;  // two 2x2 kernels of either axis
  const int64_t kernel = round_up(conv.out(), int8.lanes) * sides * sides *
                         (round_up(conv.in(), int8.depth_unit) * int8.code_bytes + static_cast<int64_t>(sizeof(float)));
  return static_cast<size_t>(Int8Pictures::bytes(x) + kernel);
}

}  // namespace inkstone
