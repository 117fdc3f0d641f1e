// Products of activations with weights of any format: linear layers, and convolutions seen as such.
#pragma once
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/sequence_vectors.h"
#include "cpu/tile_plan.h"
#include "cpu/vector_ops.h"
#include "cpu/worker_scratch.h"
#include "ops/kernels.h"

namespace inkstone {

/// Columns [begin, end) of some rows.
struct LeftRange {
  int64_t row = 0;
  int64_t rows = 0;
  int64_t begin = 0;
  int64_t end = 0;

  int64_t depth() const { return end - begin; }
};

/// Rows in memory, `stride` places apart. A place is a number, or two of 16 bits: see PanelOps.
struct RowView {
  const float* data = nullptr;
  int64_t stride = 0;
};

/// A left factor, which need not lie in memory as a whole.
class LeftMatrix {
 public:
  virtual ~LeftMatrix() = default;

  /// Columns [i * run(), (i + 1) * run()) may lie side by side in memory; no range crosses such a border.
  virtual int64_t run() const = 0;

  /// The range where it is; null if its rows do not lie at equal distances.
  virtual RowView in_place(const LeftRange& range) const = 0;

  /// The range, row after row without gaps, in places.
  virtual void copy(const LeftRange& range, float* to) const = 0;

  /// What products of each row are multiplied with; null: 1.
  virtual const float* scales() const { return nullptr; }

  /// Called some time before a range is wanted.
  virtual void prefetch(const LeftRange& range) const = 0;
};

/// Where the rows of a product lie in its result, in numbers.
struct ResultRows {
  int64_t first = 0;         ///< of row 0
  int64_t stride = 0;        ///< from row to row
  int64_t rows_of_line = 0;  ///< rows that lie so
  int64_t line_stride = 0;   ///< from line to line

  int64_t at(int64_t row) const { return first + row / rows_of_line * line_stride + row % rows_of_line * stride; }
};

/// left weightᵀ
struct Factors {
  const LeftMatrix* left = nullptr;
  const Weight* weight = nullptr;
  const PanelOps* ops = nullptr;  ///< how both lie; null: as f32
};

/// y = residual + gate * act(left wᵀ + the added products + bias), for some numbers of a result.
struct MatrixProduct {
  const LeftMatrix* left = nullptr;  ///< (rows, in)
  int64_t rows = 0;
  const Weight* weight = nullptr;
  const PanelOps* ops = nullptr;    ///< as in Factors
  std::vector<Factors> added = {};  ///< of any depth; weights with as many outputs
  const float* bias = nullptr;      ///< (out) or null
  const Epilogue* epilogue = nullptr;
  int64_t gate_column = 0;  ///< of the gates: output 0 of the weight
  float* y = nullptr;       ///< the whole result, shaped like the epilogue's residual
  ResultRows result;

  ProductSize size(int64_t column_unit) const { return {rows, weight->in, weight->out, column_unit}; }
};

/// What the epilogue does to sums that are in the result, for rows of one line. `gates` is of the epilogue's gate.
void finish_rows(const MatrixProduct& product, const Tile& tile, const VectorOps& vector, SequenceVectors& gates);

/// A product for each slab of a linear layer, without its left factor.
std::vector<MatrixProduct> products_of(const LinearPart& part, const Tensor& out);

/// Cuts all products into one list of tiles, so that workers share them well. A number of a result depends on its row
/// and its output alone, not on how the work was cut.
void run_products(std::span<const MatrixProduct> products, ThreadPool& pool, const VectorOps& vector,
                  WorkerScratch& scratch);

}  // namespace inkstone
