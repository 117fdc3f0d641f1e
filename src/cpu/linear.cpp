#include <algorithm>
#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/matrix_product.h"

namespace inkstone {
namespace {

constexpr int64_t kLineNumbers = 16;  // of a cache line
constexpr int64_t kBadStride = 512;   // rows this far apart drive each other out of the first cache

/// Rows that lie in memory.
class DenseRows final : public LeftMatrix {
 public:
  explicit DenseRows(const Tensor& x) : x_(x.data<const float>()), width_(x.dim(1)) {}

  int64_t run() const override { return width_; }

  RowView in_place(const LeftRange& range) const override {
    if (width_ % kBadStride == 0) return {};
    return {x_ + range.row * width_ + range.begin, width_};
  }

  void copy(const LeftRange& range, float* to) const override {
    for (int64_t row = range.row; row < range.row + range.rows; ++row, to += range.depth())
      std::memcpy(to, x_ + row * width_ + range.begin, static_cast<size_t>(range.depth()) * sizeof(float));
  }

  void prefetch(const LeftRange& range) const override {
    for (int64_t row = range.row; row < range.row + range.rows; ++row)
      for (int64_t i = range.begin; i < range.end; i += kLineNumbers) __builtin_prefetch(x_ + row * width_ + i);
  }

 private:
  const float* x_;
  int64_t width_;
};

}  // namespace

std::vector<MatrixProduct> products_of(const LinearPart& part, const Tensor& out) {
  std::vector<MatrixProduct> products;
  int64_t column = 0;
  for (const Slab& slab : part.layer->slabs) {
    products.push_back({.rows = part.x.dim(0),
                        .weight = &slab.weight,
                        .bias = slab.bias ? slab.bias.data<const float>() : nullptr,
                        .epilogue = &part.epilogue,
                        .gate_column = column,
                        .y = out.data<float>(),
                        .result = {.first = column, .stride = out.dim(1), .rows_of_line = part.x.dim(0)}});
    column += slab.weight.out;
  }
  return products;
}

void CpuKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  if (std::all_of(parts.begin(), parts.end(), [this](const LinearPart& part) { return uses_int8(part.layer); }))
    return linear_int8(out, parts);
  std::vector<DenseRows> rows;
  for (const LinearPart& part : parts) rows.emplace_back(part.x);
  std::vector<MatrixProduct> products;
  for (size_t p = 0; p < parts.size(); ++p)
    for (MatrixProduct& product : products_of(parts[p], out[p])) {
      product.left = &rows[p];
      products.push_back(product);
    }
  run_products(products, pool_, vector_, scratch_);
}

}  // namespace inkstone
