#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/matrix_product.h"

namespace inkstone {
namespace {

constexpr int64_t kLineNumbers = 16;

/// Rows in memory.
class DenseRows final : public LeftMatrix {
 public:
  explicit DenseRows(const Tensor& x) : x_(x.data<const float>()), stride_(x.dim(1)) {}

  void read(int64_t row, int64_t begin, int64_t end, float* to) const override {
    std::memcpy(to, x_ + row * stride_ + begin, static_cast<size_t>(end - begin) * sizeof(float));
  }
  void prefetch(int64_t row, int64_t begin, int64_t end) const override {
    for (int64_t i = begin; i < end; i += kLineNumbers) __builtin_prefetch(x_ + row * stride_ + i);
  }

 private:
  const float* x_;
  int64_t stride_;
};

}  // namespace

void CpuKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::vector<DenseRows> rows;
  for (const LinearPart& part : parts) rows.emplace_back(part.x);

  std::vector<MatrixProduct> products;
  for (size_t p = 0; p < parts.size(); ++p) {
    int64_t column = 0;
    for (const Slab& slab : parts[p].layer->slabs) {
      products.push_back({.left = &rows[p],
                          .rows = parts[p].x.dim(0),
                          .weight = &slab.weight,
                          .bias = slab.bias ? slab.bias.data<const float>() : nullptr,
                          .epilogue = &parts[p].epilogue,
                          .y = out[p].data<float>(),
                          .y_stride = out[p].dim(1),
                          .first_column = column});
      column += slab.weight.out;
    }
  }
  run_products(products, pool_, vector_, scratch_);
}

}  // namespace inkstone
