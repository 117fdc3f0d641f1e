#include "reference/formulas.h"
#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

/// x Wᵀ + b of one slab, into columns [column, column + slab's out) of out.
void multiply(const Tensor& out, int64_t column, const Tensor& x, const Slab& slab) {
  const int64_t n = x.dim(0), in = slab.weight.in, width = out.dim(1);
  std::vector<float> row(static_cast<size_t>(in));
  for (int64_t o = 0; o < slab.weight.out; ++o) {
    dequantize_rows(slab.weight, o, o + 1, row.data());
    for (int64_t i = 0; i < n; ++i) {
      double sum = slab.bias ? slab.bias.data<const float>()[o] : 0;
      for (int64_t j = 0; j < in; ++j) sum += double{x.data<const float>()[i * in + j]} * row[static_cast<size_t>(j)];
      out.data<float>()[i * width + column + o] = static_cast<float>(sum);
    }
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
