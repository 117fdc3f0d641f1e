#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>

#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "cpu/cpu_kernels.h"
#include "cpu/matrix_product.h"

namespace inkstone {
namespace {

constexpr int64_t kBadStride = 512;  // rows this far apart drive each other out of the first cache

/// Rows that lie in memory.
class DenseRows final : public LeftMatrix {
 public:
  explicit DenseRows(const Tensor& x) : rows_({x.data<float>(), x.dim(1)}), width_(x.dim(1)) {}
  DenseRows(const HalfRows& rows, int64_t width) : rows_(rows), width_(width), inputs_(kHalvesOfAPlace) {}

  int64_t run() const override { return width_; }

  RowView in_place(const LeftRange& range) const override {
    if (rows_.stride % kBadStride == 0) return {};
    return {at(range.row, range.begin), rows_.stride};
  }

  void copy(const LeftRange& range, float* to) const override {
    const int64_t places = divide_up(range.depth(), inputs_);
    for (int64_t row = range.row; row < range.row + range.rows; ++row, to += places)
      std::memcpy(to, at(row, range.begin), static_cast<size_t>(places) * sizeof(float));
  }

  const float* scales() const override { return rows_.scales; }

  void prefetch(const LeftRange& range) const override {
    const int64_t places = divide_up(range.depth(), inputs_);
    for (int64_t row = range.row; row < range.row + range.rows; ++row) {
      const float* from = at(row, range.begin);
      for (int64_t i = 0; i < places; i += kLineNumbers) __builtin_prefetch(from + i);
    }
  }

 private:
  const float* at(int64_t row, int64_t input) const { return rows_.places + row * rows_.stride + input / inputs_; }

  HalfRows rows_;
  int64_t width_;
  int64_t inputs_ = 1;  // of a place
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

size_t CpuKernels::step_bytes(std::span<const LinearPart> parts) const {
  int64_t bytes = 0, tile = 0;
  for (const LinearPart& part : parts) {
    const int64_t rows = part.x.dim(0);
    const bool rounds = uses_int8(part.layer);
    if (rounds && part.x.dtype() != DType::i8) bytes += int8_bytes(rows, part.x.dim(1));
    if (uses_half(part.layer)) bytes += half_bytes(rows, part.x.dim(1));
    if (rounds && uses_int8(part.epilogue.feeds))
      tile = std::max(tile, rounded_tile_bytes(*int8_, rows, part.layer->out()));
    for (const Slab& slab : part.layer->slabs)
      for (const SideBranch& branch : slab.branches) {
        const int64_t rank = branch.rank();
        bytes += rounds ? int8_bytes(rows, rank) : rows * rank * static_cast<int64_t>(sizeof(float));
        if (rounds) tile = std::max(tile, rounded_tile_bytes(*int8_, rows, rank));
      }
  }
  return static_cast<size_t>(bytes + tile * pool_.threads());
}

Tensor CpuKernels::add_low_rank(const LeftMatrix& x, int64_t rows, const SideBranch& branch, LowRank& low) {
  const Tensor result = host_tensor({rows, branch.rank()}, DType::f32);
  low.exact.push_back({.left = &x,
                       .rows = rows,
                       .weight = &branch.down,
                       .epilogue = &low.nothing,
                       .y = result.data<float>(),
                       .result = {.stride = branch.rank(), .rows_of_line = rows}});
  low.numbers.emplace_back(result.span<float>(), branch.factor);
  return result;
}

void CpuKernels::multiply(const LowRank& low) {
  if (!low.exact.empty()) run_products(low.exact, pool_, vector_, scratch_);
  if (!low.rounded.empty()) run_products(low.rounded, pool_, {vector_, *int8_}, scratch_);
  for (const auto& [numbers, factor] : low.numbers)
    for (float& number : numbers) number *= factor;
}

void CpuKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::deque<DenseRows> rows;  // products point at them
  std::vector<Tensor> memory;  // and they at these
  LowRank low;
  std::vector<MatrixProduct> exact;
  std::vector<Int8Product> rounded;
  for (size_t p = 0; p < parts.size(); ++p) {
    const LinearPart& part = parts[p];
    if (uses_int8(part.layer)) {
      std::ranges::move(int8_products(part, out[p], memory, low), std::back_inserter(rounded));
      continue;
    }
    const LeftMatrix* x = &rows.emplace_back(part.x);
    const LeftMatrix* left = x;
    if (uses_half(part.layer)) left = &rows.emplace_back(in_halves(part.x, memory.emplace_back()), part.x.dim(1));
    std::vector<MatrixProduct> products = products_of(part, out[p]);
    for (size_t s = 0; s < products.size(); ++s) {
      products[s].left = left;
      if (left != x) products[s].ops = &half_->panel;
      for (const SideBranch& branch : part.layer->slabs[s].branches) {
        memory.push_back(add_low_rank(*x, part.x.dim(0), branch, low));
        products[s].added.push_back({&rows.emplace_back(memory.back()), &branch.up});
      }
    }
    std::ranges::move(products, std::back_inserter(exact));
  }
  multiply(low);
  if (!exact.empty()) run_products(exact, pool_, vector_, scratch_);
  if (!rounded.empty()) run_products(rounded, pool_, {vector_, *int8_}, scratch_);
}

}  // namespace inkstone
