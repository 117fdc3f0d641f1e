#include "ops/arguments.h"

#include "ops/mixed_order.h"

namespace inkstone {

void Arguments::activation(const char* name, const Tensor& t) const {
  need(is_activation(t) && t.shape().rank() > 0, "{} is {} {}, a tensor of {} is needed", name, name_of(t.dtype()),
       t.shape(), name_of(activation_));
}

void Arguments::activation(const char* name, const Tensor& t, int rank) const {
  activation(name, t);
  need(t.shape().rank() == rank, "{} is {}, a tensor of rank {} is needed", name, t.shape(), rank);
}

void Arguments::layer_input(const char* name, const Tensor& t) const {
  if (!t || (t.dtype() != DType::i8 && t.dtype() != DType::f8_e4m3)) return activation(name, t, 2);
  need(t.shape().rank() == 2, "{} is {}, a tensor of rank 2 is needed", name, t.shape());
}

void Arguments::activation(const char* name, const Tensor& t, const Shape& shape) const {
  tensor(name, t, shape, is_activation(t) ? t.dtype() : activation_);
}

void Arguments::tensor(const char* name, const Tensor& t, const Shape& shape, DType dtype) const {
  need(t && t.shape() == shape && t.dtype() == dtype, "{} is {} {}, {} {} is needed", name, name_of(t.dtype()),
       t.shape(), name_of(dtype), shape);
}

void Arguments::weight(const char* name, const Weight& w) const {
  const BlockLayout& layout = layout_of(w.format);
  const int64_t row_bytes = w.in / layout.numbers * layout.bytes;
  need(w.in % layout.numbers == 0, "{} {} is {}, whose rows are multiples of {}", name, Shape{w.out, w.in}, layout.name,
       layout.numbers);
  need(w.data && w.data.shape().rank() == 2 && w.data.dim(0) == w.out &&
           static_cast<int64_t>(w.data.bytes()) == w.out * row_bytes,
       "{} holds {} {}, {} bytes for {} {} are needed", name, name_of(w.data.dtype()), w.data.shape(),
       w.out * row_bytes, layout.name, Shape{w.out, w.in});
  if (w.factors) return mixed_weight(name, w);
  if (layout.beside == Beside::nothing || (layout.beside == Beside::scales && !w.scales)) return;
  need(w.group > 0 && w.in % w.group == 0 && w.group % layout.numbers == 0, "{} {} has groups of {}", name,
       Shape{w.out, w.in}, w.group);
  const Shape groups = {w.out, w.in / w.group};
  const Shape offsets = layout.beside == Beside::scales_and_offsets ? groups : Shape();
  need(w.scales && w.scales.shape() == groups && w.offsets.shape() == offsets,
       "{} has scales {} and offsets {}, {} and {} are needed", name, w.scales.shape(), w.offsets.shape(), groups,
       offsets);
}

void Arguments::mixed_weight(const char* name, const Weight& w) const {
  const bool small = w.format == WeightFormat::affine4;
  need((small ? MixedOrder::takes_small(w.out, w.in)
              : w.format == WeightFormat::affine8 && MixedOrder::takes(w.out, w.in) && !w.offsets),
       "{} {} {} has factors; int8 of {} outputs and {} inputs at a time and int4 of {} inputs can", name,
       layout_of(w.format).name, Shape{w.out, w.in}, kMixedLanes, kMixedStep, kMixedPair);
  if (small) tensor("steps", w.offsets, {2 * MixedOrder::small_groups_in(w.in), w.out}, DType::u8);
  tensor("scales", w.scales, {MixedOrder::groups_in(w.in), w.out}, DType::f32);
  tensor("factors", w.factors, {w.in}, DType::f32);
}

void Arguments::side_branch(const SideBranch& branch, const Weight& beside) const {
  const Weight &down = branch.down, &up = branch.up;
  weight("down", down);
  weight("up", up);
  need(down.out > 0 && down.in == beside.in && up.in == down.out && up.out == beside.out,
       "a side branch {} {} cannot stand beside weight {}", Shape{down.out, down.in}, Shape{up.out, up.in},
       Shape{beside.out, beside.in});
}

void Arguments::layer(const Linear& layer, int64_t in) const {
  need(!layer.slabs.empty(), "the layer has no weights");
  for (const Slab& slab : layer.slabs) {
    weight("weight", slab.weight);
    need(slab.weight.in == in, "x has width {}, weight {} takes {}", in, Shape{slab.weight.out, slab.weight.in},
         slab.weight.in);
    if (slab.bias) tensor("bias", slab.bias, {slab.weight.out}, DType::f32);
    for (const SideBranch& branch : slab.branches) side_branch(branch, slab.weight);
  }
}

void Arguments::sequences(const Sequences* sequences, int64_t rows) const {
  need(sequences != nullptr, "sequences are missing");
  need(sequences->rows() == rows, "sequences of {} rows for {} rows", sequences->rows(), rows);
}

void Arguments::vectors(const char* name, const SequenceRows& vectors, int64_t rows, int64_t d) const {
  sequences(vectors.sequences, rows);
  activation(name, vectors.table, 2);
  need(vectors.table.dim(1) == d, "{} has table {} for width {}", name, vectors.table.shape(), d);
  need(0 <= vectors.slot && vectors.slot < vectors.table.dim(0), "{} has slot {} in table {}", name, vectors.slot,
       vectors.table.shape());
  tensor(name, vectors.row, {vectors.sequences->count()}, DType::i32);
}

}  // namespace inkstone
