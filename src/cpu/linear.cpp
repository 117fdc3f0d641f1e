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
  std::vector<DenseRows> rows;
  rows.reserve(parts.size());  // products point at them
  std::vector<MatrixProduct> exact;
  std::vector<Int8Product> rounded;
  for (size_t p = 0; p < parts.size(); ++p) {
    if (uses_int8(parts[p].layer)) {
      const auto products = int8_products(p, parts[p], out[p]);
      rounded.insert(rounded.end(), products.begin(), products.end());
      continue;
    }
    rows.emplace_back(parts[p].x);
    for (MatrixProduct& product : products_of(parts[p], out[p])) {
      product.left = &rows.back();
      exact.push_back(product);
    }
  }
  if (!exact.empty()) run_products(exact, pool_, vector_, scratch_);
  if (!rounded.empty()) run_products(rounded, pool_, {vector_, *int8_}, scratch_);
}

}  // namespace inkstone
