// Linear layers: the streams and slabs of a call become one list of tiles, which the workers share out.
#include <algorithm>

#include "cpu/cpu_kernels.h"
#include "cpu/epilogue.h"
#include "cpu/gemm.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kTasksPerWorker = 8;            // enough that the last ones end together
constexpr int64_t kLeastTask = int64_t{1} << 20;  // multiply-adds; below, handing out costs more than it gains
constexpr int64_t kMaxRows = 1088;                // of a tile: beyond, its result leaves the cache before the epilogue
constexpr int64_t kMaxColumns = 384;
constexpr int64_t kRowUnit = 8;  // oneDNN's micro-kernel is 48 columns wide and 8 rows high
constexpr int64_t kColumnUnit = 48;
constexpr int64_t kPanelDepth =
    384;  // inputs of a weight panel that is expanded: with kMaxColumns it fits the L2 cache

/// A tile of one part's result: some rows, and some of one slab's features.
struct LinearTask {
  size_t part = 0;
  size_t slab = 0;
  int64_t slab_begin = 0;  ///< the slab's first column in the result
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t begin = 0;  ///< features of the slab
  int64_t end = 0;

  int64_t area() const { return (row_end - row_begin) * (end - begin); }
};

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// The side of equal blocks of at most `most` that `n` divides into.
int64_t even_side(int64_t n, int64_t most, int64_t unit) {
  const int64_t blocks = std::max<int64_t>(1, (n + most - 1) / most);
  return round_up((n + blocks - 1) / blocks, unit);
}

struct TileSides {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// The longer side is halved until a tile holds at most `target` multiply-adds: packing costs 1/rows + 1/columns.
TileSides tile_sides(int64_t rows, int64_t out, int64_t in, int64_t target) {
  int64_t most_rows = kMaxRows;
  int64_t most_columns = kMaxColumns;
  TileSides sides = {even_side(rows, most_rows, kRowUnit), even_side(out, most_columns, kColumnUnit)};
  while (sides.rows * sides.columns * in > target) {
    const bool cut_rows = sides.rows > sides.columns;
    if (!cut_rows && sides.columns <= kColumnUnit) break;
    int64_t& most = cut_rows ? most_rows : most_columns;
    most = std::max((cut_rows ? sides.rows : sides.columns) / 2, cut_rows ? kRowUnit : kColumnUnit);
    sides = {even_side(rows, most_rows, kRowUnit), even_side(out, most_columns, kColumnUnit)};
  }
  return sides;
}

/// Large tiles first, so that small ones fill the gaps at the end.
std::vector<LinearTask> plan(std::span<const LinearPart> parts, int threads) {
  int64_t work = 0;
  for (const LinearPart& p : parts) work += p.x.dim(0) * p.layer->in() * p.layer->out();
  const int64_t target = std::max(kLeastTask, work / (threads * kTasksPerWorker));

  std::vector<LinearTask> tasks;
  for (size_t p = 0; p < parts.size(); ++p) {
    const std::vector<Slab>& slabs = parts[p].layer->slabs;
    const int64_t rows = parts[p].x.dim(0);
    int64_t slab_begin = 0;
    for (size_t s = 0; s < slabs.size(); ++s) {
      const int64_t out = slabs[s].weight.out;
      const TileSides sides = tile_sides(rows, out, slabs[s].weight.in, target);
      for (int64_t column = 0; column < out; column += sides.columns)
        for (int64_t row = 0; row < rows; row += sides.rows)
          tasks.push_back({.part = p,
                           .slab = s,
                           .slab_begin = slab_begin,
                           .row_begin = row,
                           .row_end = std::min(row + sides.rows, rows),
                           .begin = column,
                           .end = std::min(column + sides.columns, out)});
      slab_begin += out;
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const LinearTask& a, const LinearTask& b) { return a.area() > b.area(); });
  return tasks;
}

/// The product of a tile, with the weight read in place or expanded panel by panel.
void multiply(const LinearTask& task, const Weight& weight, Gemm g, WorkerScratch& scratch, int worker) {
  if (weight.format == WeightFormat::f32) {
    g.w = weight.data.data<const float>() + task.begin * weight.in;
    g.w_stride = weight.in;
    return gemm(g);
  }
  const float* x = g.x;
  const int64_t depth = std::min(weight.in, round_up(kPanelDepth, column_unit(weight)));
  float* panel = scratch.floats(worker, g.n * depth);
  for (int64_t begin = 0; begin < weight.in; begin += depth) {
    const int64_t end = std::min(begin + depth, weight.in);
    expand_panel(weight, {task.begin, task.end, begin, end}, panel);
    g.k = end - begin;
    g.x = x + begin;
    g.w = panel;
    g.w_stride = g.k;
    g.accumulate = begin > 0;
    gemm(g);
  }
}

void run_task(const LinearTask& task, const LinearPart& part, Tensor& out, WorkerScratch& scratch, int worker) {
  const Slab& slab = part.layer->slabs[task.slab];
  const int64_t stride = out.dim(1);
  const int64_t in = slab.weight.in;
  float* y = out.data<float>();
  const Tile tile = {.y = y,
                     .stride = stride,
                     .row_begin = task.row_begin,
                     .row_end = task.row_end,
                     .column_begin = task.slab_begin + task.begin,
                     .column_end = task.slab_begin + task.end};
  multiply(task, slab.weight,
           {.m = task.row_end - task.row_begin,
            .n = task.end - task.begin,
            .k = in,
            .x = part.x.data<const float>() + task.row_begin * in,
            .x_stride = in,
            .y = y + task.row_begin * stride + tile.column_begin,
            .y_stride = stride},
           scratch, worker);
  finish_tile(tile, slab.bias ? slab.bias.data<const float>() + task.begin : nullptr, part.epilogue);
}

}  // namespace

void CpuKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  const std::vector<LinearTask> tasks = plan(parts, pool_.threads());
  pool_.run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int worker) {
    const OneDnnOnThisThread one_thread;
    const LinearTask& task = tasks[static_cast<size_t>(index)];
    run_task(task, parts[task.part], out[task.part], scratch_, worker);
  });
}

}  // namespace inkstone
