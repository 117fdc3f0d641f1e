// Products of rows that are held in 8 bits with weights of any format.
#pragma once
#include "cpu/int8_ops.h"
#include "cpu/matrix_product.h"

namespace inkstone {

/// Rows as codes and scales, a scale for every kInt8Group inputs; both lie row after row without gaps.
struct Int8Rows {
  int8_t* codes = nullptr;  ///< (rows, width)
  float* scales = nullptr;  ///< (rows, groups)
  int64_t width = 0;

  int64_t groups() const { return (width + kInt8Group - 1) / kInt8Group; }
};

/// Bytes of so many rows, codes first.
int64_t int8_bytes(int64_t rows, int64_t width);

/// Rows in memory of int8_bytes(), aligned for f32.
Int8Rows int8_rows(void* memory, int64_t rows, int64_t width);

struct Int8Product {
  MatrixProduct product;  ///< without a left factor; its result's rows are of one line
  Int8Rows left;
};

/// The instruction set's functions, for numbers of 32 and of 8 bits.
struct Int8Functions {
  const VectorOps& vector;
  const Int8Ops& int8;
};

/// Rounds the weights to 8 bits, panel by panel, and multiplies whole numbers. As with run_products(), a number of a
/// result depends on its row and its output alone.
void run_products(std::span<const Int8Product> products, ThreadPool& pool, const Int8Functions& functions,
                  WorkerScratch& scratch);

}  // namespace inkstone
