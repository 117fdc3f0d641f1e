// How products of matrices are cut into tasks for the workers.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace inkstone {

/// Rows that a worker multiplies with a panel of weights in about the time in which it packs it.
constexpr int64_t kPackingRows = 40;

/// A product (rows, in) x (in, out).
struct ProductSize {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out = 0;
  int64_t column_unit = 1;  ///< columns of its tiles are multiples of this, or end with the product

  bool operator==(const ProductSize&) const = default;
};

/// Rows and outputs of a product.
struct Tile {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t out_begin = 0;
  int64_t out_end = 0;

  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return out_end - out_begin; }
};

struct TileTask {
  size_t product = 0;
  Tile tile;
};

/// Of a task.
struct TileLimits {
  int64_t row_unit = 1;  ///< as ProductSize::column_unit
  int64_t most_rows = 0;
  int64_t most_columns = 0;
  int64_t tasks_per_worker = 8;  ///< enough that the last ones end together
  int64_t packing = 1;           ///< what packing a weight costs, beside reading a number of the left factor

  bool operator==(const TileLimits&) const = default;
};

/// The side of equal blocks of at most `most` that `n` divides into, rounded up to whole units.
int64_t even_side(int64_t n, int64_t most, int64_t unit);

/// All products as one list of tasks, large ones first, so that small ones fill the gaps at the end. Equal tiles of the
/// best shape if so many threads end together with them, else whatever a simulation of them finds to end first: up to 2
/// ms of planning for 128 threads.
std::vector<TileTask> plan_tiles(std::span<const ProductSize> products, const TileLimits& limits, int threads);

/// Keeps the plans of a device's last products: every step and block has the same.
class TilePlans {
 public:
  /// As plan_tiles(); void at the next call.
  const std::vector<TileTask>& of(std::span<const ProductSize> products, const TileLimits& limits, int threads);

 private:
  struct Plan {
    std::vector<ProductSize> products;
    TileLimits limits;
    int threads = 0;
    std::vector<TileTask> tasks;
  };
  std::vector<Plan> plans_;
  size_t oldest_ = 0;
};

}  // namespace inkstone
