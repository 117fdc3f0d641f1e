// Products of rows that are held in 8 bits with weights of any format.
#pragma once
#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "cpu/int8_layer.h"
#include "cpu/matrix_product.h"
#include "cpu/tile_plan.h"

namespace inkstone {

/// From row to row of codes. An odd number of cache lines keeps rows out of each other's way in the caches.
inline int64_t int8_stride(int64_t width) { return (divide_up(width, kLineBytes) | 1) * kLineBytes; }

/// Rows as codes, and scales and sums of every kInt8Group of them.
struct Int8Rows {
  int8_t* codes = nullptr;  ///< (rows, width), stride() apart
  float* scales = nullptr;  ///< (rows, groups)
  int32_t* sums = nullptr;  ///< (rows, groups)
  int64_t width = 0;

  int64_t groups() const { return divide_up(width, kInt8Group); }
  int64_t stride() const { return int8_stride(width); }
  /// Of a row from a column on, where a group begins.
  Int8Target at(int64_t row, int64_t column = 0) const;
};

/// Bytes of so many rows.
int64_t int8_bytes(int64_t rows, int64_t width);

/// Rows in memory of int8_bytes(), aligned for f32.
Int8Rows int8_rows(void* memory, int64_t rows, int64_t width);

/// left weightᵀ
struct Int8Term {
  Int8Rows left;
  const Weight* weight = nullptr;
  const Int8Factors* factors = nullptr;  ///< that the left rows were rounded with; null: none
  const Int8Packed* packed = nullptr;    ///< the weight; null: it is rounded in the product
};

struct Int8Product {
  MatrixProduct product;              ///< without a left factor and added products; its result's rows are of one line
  Int8Term main;                      ///< of the product's weight
  std::vector<Int8Term> added = {};   ///< of any depth; weights with as many outputs
  Int8Rows rounded = {};              ///< where the result goes in 8 bits; without: to the product's result
  const Int8Factors* next = nullptr;  ///< of the layer that the rounded result feeds; null: none
};

/// Bytes that a worker takes at most for results of so many rows and outputs that are rounded before they leave a tile.
int64_t rounded_tile_bytes(const Int8Ops& int8, int64_t rows, int64_t outputs);

/// How products are cut into tiles.
TileLimits int8_tile_limits(const Int8Ops& int8);

/// Columns of a tile come in such units: whole strips, and whole groups too where the tile rounds its results.
int64_t int8_column_unit(const Int8Ops& int8, bool rounded);

/// Multiplies whole numbers; weights that nobody rounded before are rounded panel by panel. As with run_products(), a
/// number of a result depends on its row and its output alone.
void run_products(std::span<const Int8Product> products, ThreadPool& pool, const Int8Functions& functions,
                  WorkerScratch& scratch);

}  // namespace inkstone
