#include "cuda/views.h"

namespace inkstone {

cuda::SequenceStarts sequence_starts(CudaContext& context, const Sequences& sequences) {
  std::vector<int32_t> begin;
  for (int64_t s = 0; s <= sequences.count(); ++s)
    begin.push_back(static_cast<int32_t>(s < sequences.count() ? sequences.begin(s) : sequences.rows()));
  return {context.table(begin), static_cast<int32_t>(sequences.count())};
}

cuda::RowVectors row_vectors(CudaContext& context, const SequenceRows& vectors) {
  if (!vectors) return {};
  return {.table = numbers(vectors.table),
          .row = vectors.row.data<const int32_t>(),
          .slot = vectors.slot,
          .sequences = sequence_starts(context, *vectors.sequences)};
}

Tensor narrowed(CudaContext& context, Tensor t, DType type) {
  const Shape shape = t.shape();
  t = Tensor();
  return context.empty(shape, type);
}

namespace {

Tensor copied(CudaContext& context, const Tensor& t, DType type) {
  const Tensor copy = context.empty(t.shape(), type);
  cuda::convert(output(copy), numbers(t), t.count(), context.stream());
  return copy;
}

}  // namespace

Tensor rounded_copy(CudaContext& context, const Tensor& x) {
  const int64_t n = x.dim(0), d = x.dim(1);
  const Tensor memory = context.empty(rounded_shape(n, d), DType::u8);
  const Tensor codes = {memory.buffer(), memory.offset(), x.shape(), DType::f8_e4m3};
  const Tensor from = lies_in_fours(x) ? x : copied(context, x, x.dtype());  // the kernel reads fours
  cuda::round_rows(rounded(codes), numbers(from), Activation::none, n, d, context.stream());
  return codes;
}

Tensor dense(CudaContext& context, const Weight& weight) {
  const DType type = context.operand_type();
  if (weight.format == dense_format(type)) return weight.data;
  const Tensor expanded = context.empty({weight.out, weight.in}, type);
  cuda::expand(output(expanded), matrix(weight), weight.out, context.stream());
  return expanded;
}

Tensor as_type(CudaContext& context, const Tensor& t, DType type) {
  return t.dtype() == type ? t : copied(context, t, type);
}

}  // namespace inkstone
