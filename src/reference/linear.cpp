#include "reference/formulas.h"
#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

/// Rows of sums, all in f64.
using Rows = std::vector<std::vector<double>>;

/// to += factor * x wᵀ
void add_product(Rows& to, const auto& x, const Weight& w, double factor = 1) {
  std::vector<float> row(static_cast<size_t>(w.in));
  for (int64_t o = 0; o < w.out; ++o) {
    dequantize_rows(w, o, o + 1, row.data());
    for (size_t i = 0; i < to.size(); ++i) {
      double sum = 0;
      for (size_t j = 0; j < row.size(); ++j) sum += double{x[i][j]} * row[j];
      to[i][static_cast<size_t>(o)] += factor * sum;
    }
  }
}

Rows zeros(size_t rows, int64_t width) { return Rows(rows, std::vector<double>(static_cast<size_t>(width))); }

/// x Wᵀ + b of one slab with its side branches, into columns [column, column + slab's out) of out.
void multiply(const Tensor& out, int64_t column, const Tensor& x, const Slab& slab) {
  std::vector<const float*> rows;
  for (int64_t i = 0; i < x.dim(0); ++i) rows.push_back(x.data<const float>() + i * x.dim(1));

  Rows sums = zeros(rows.size(), slab.weight.out);
  add_product(sums, rows, slab.weight);
  for (const SideBranch& branch : slab.branches) {
    Rows low = zeros(rows.size(), branch.rank());
    add_product(low, rows, branch.down);
    add_product(sums, low, branch.up, branch.factor);
  }
  for (size_t i = 0; i < sums.size(); ++i)
    for (int64_t o = 0; o < slab.weight.out; ++o) {
      const double bias = slab.bias ? slab.bias.data<const float>()[o] : 0;
      out.data<float>()[static_cast<int64_t>(i) * out.dim(1) + column + o] =
          static_cast<float>(sums[i][static_cast<size_t>(o)] + bias);
    }
}

void finish(const Tensor& out, const Epilogue& epilogue) {
  const int64_t width = out.dim(1);
  for (int64_t i = 0; i < out.dim(0); ++i)
    for (int64_t j = 0; j < width; ++j) {
      float& element = out.data<float>()[i * width + j];
      double y = activate(element, epilogue.activation);
      if (epilogue.gate) y *= vector_of(epilogue.gate, i)[j];
      if (epilogue.residual) y += epilogue.residual.data<const float>()[i * width + j];
      element = static_cast<float>(y);
    }
}

}  // namespace

void ReferenceKernels::embed(Tensor& out, const Weight& table, const Tensor& ids) {
  for (int64_t i = 0; i < ids.dim(0); ++i) {
    const int32_t id = ids.data<const int32_t>()[i];
    dequantize_rows(table, id, id + 1, out.data<float>() + i * table.in);
  }
}

void ReferenceKernels::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  for (size_t p = 0; p < parts.size(); ++p) {
    int64_t column = 0;
    for (const Slab& slab : parts[p].layer->slabs) {
      multiply(out[p], column, parts[p].x, slab);
      column += slab.weight.out;
    }
    finish(out[p], parts[p].epilogue);
  }
}

}  // namespace inkstone
