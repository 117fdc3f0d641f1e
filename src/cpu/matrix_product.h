// Products of activations with weights of any format: linear layers, and convolutions seen as such.
#pragma once
#include <span>

#include "core/thread_pool.h"
#include "cpu/vector_ops.h"
#include "cpu/worker_scratch.h"
#include "ops/kernels.h"

namespace inkstone {

/// A left factor, which may exist only while it is read.
class LeftMatrix {
 public:
  virtual ~LeftMatrix() = default;
  /// Columns [begin, end) of one row.
  virtual void read(int64_t row, int64_t begin, int64_t end, float* to) const = 0;
  /// Called some time before read().
  virtual void prefetch(int64_t row, int64_t begin, int64_t end) const = 0;
};

/// y = residual + gate * act(left wᵀ + bias), for some columns of a result.
struct MatrixProduct {
  const LeftMatrix* left = nullptr;  ///< (rows, in)
  int64_t rows = 0;
  const Weight* weight = nullptr;
  const float* bias = nullptr;  ///< (out) or null
  const Epilogue* epilogue = nullptr;
  float* y = nullptr;        ///< the whole result (rows, y_stride)
  int64_t y_stride = 0;      ///< in numbers, also of the epilogue's residual
  int64_t first_column = 0;  ///< of the result: output 0 of the weight
};

/// Cuts all products into one list of tiles, so that workers share them well. A number of a result depends on its row
/// and its output alone, not on how the work was cut.
void run_products(std::span<const MatrixProduct> products, ThreadPool& pool, const VectorOps& vector,
                  WorkerScratch& scratch);

}  // namespace inkstone
