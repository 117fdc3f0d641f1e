// Linear layers in 8 bits: rows are rounded once, weights panel by panel. What feeds such a layer is rounded where it
// is made; a tensor of I8 has its scales and sums behind its codes.
#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"

namespace inkstone {
namespace {

Int8Rows rows_of(const Tensor& rounded) { return int8_rows(rounded.data<void>(), rounded.dim(0), rounded.dim(1)); }

}  // namespace

bool CpuKernels::uses_int8(const Linear* layer) const {
  // Side branches are added in f32, and so is what they stand beside.
  return int8_ != nullptr && layer != nullptr && layer->tolerance != nullptr && !layer->has_branches();
}

bool CpuKernels::rounds_for(const Linear* layer, const Tensor& out) const {
  return uses_int8(layer) && int8_bytes(out.dim(0), out.dim(1)) <= static_cast<int64_t>(out.bytes());
}

Int8Rows CpuKernels::as_int8(Tensor& tensor) {
  tensor = Tensor(tensor.buffer(), tensor.offset(), tensor.shape(), DType::i8);
  return rows_of(tensor);
}

Int8Rows CpuKernels::rounded(const Tensor& x, const Int8Factors& factors, Tensor& memory) {
  const int64_t n = x.dim(0), d = x.dim(1);
  if (!memory || memory.count() < int8_bytes(n, d)) memory = host_tensor({int8_bytes(n, d)}, DType::u8);
  const Int8Rows rows = int8_rows(memory.data<void>(), n, d);
  for_row_blocks(pool_, n, d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      int8_->quantize({x.data<const float>() + i * d, factors.of_input.data()}, d, rows.at(i));
  });
  return rows;
}

std::vector<Int8Product> CpuKernels::int8_products(size_t part_number, const LinearPart& part, Tensor& out) {
  if (rounded_.size() <= part_number) rounded_.resize(part_number + 1);
  const Int8Layer& layer = layers_->of(*part.layer);
  const bool was_fed = part.x.dtype() == DType::i8;
  Int8Product all;  // g++ 12 destroys members twice if a braced initialiser throws
  all.left = was_fed ? rows_of(part.x) : rounded(part.x, layer.factors, rounded_[part_number]);
  all.factors = &layer.factors;
  const Linear* next = part.epilogue.feeds;
  const std::vector<MatrixProduct> slabs = products_of(part, out);
  if (slabs.size() == 1 && rounds_for(next, out)) {
    all.rounded = as_int8(out);
    all.next = &layers_->of(*next).factors;
  }
  std::vector<Int8Product> products(slabs.size(), all);
  for (size_t i = 0; i < slabs.size(); ++i) {
    products[i].product = slabs[i];
    if (!layer.packed.empty()) products[i].packed = &layer.packed[i];
  }
  return products;
}

}  // namespace inkstone
