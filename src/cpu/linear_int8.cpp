// Linear layers in 8 bits: rows are rounded once, weights panel by panel. What feeds such a layer is rounded where it
// is made; a tensor of I8 has its scales and sums behind its codes.
#include <algorithm>
#include <iterator>

#include "cpu/cpu_kernels.h"
#include "cpu/int8_attention.h"
#include "cpu/row_blocks.h"

namespace inkstone {
namespace {

Int8Rows rows_of(const Tensor& rounded) { return int8_rows(rounded.data<void>(), rounded.dim(0), rounded.dim(1)); }

}  // namespace

bool CpuKernels::uses_int8(const Linear* layer) const {
  return int8_ != nullptr && layer != nullptr && layer->tolerance != nullptr;
}

bool CpuKernels::rounds_for(const Linear* layer, const Tensor& out) const {
  return uses_int8(layer) && int8_bytes(out.dim(0), out.dim(1)) <= static_cast<int64_t>(out.bytes());
}

Kept CpuKernels::kept_of(std::span<const Linear* const> layers, const KeepRoom& room) const {
  std::vector<const Linear*> rounded;
  std::ranges::copy_if(layers, std::back_inserter(rounded), [&](const Linear* layer) { return uses_int8(layer); });
  return layers_ ? layers_->kept_of(rounded, room) : Kept{};
}

Int8Rows CpuKernels::as_int8(Tensor& tensor) {
  tensor = Tensor(tensor.buffer(), tensor.offset(), tensor.shape(), DType::i8);
  return rows_of(tensor);
}

void CpuKernels::attend_in_int8(std::span<Tensor> out, const Qkv& in, std::span<const Linear* const> feeds) {
  std::vector<RoundedStream> rounded;
  if (heads_together(in, *int8_, pool_.threads()) > 0)
    for (size_t i = 0; i < feeds.size(); ++i) {
      rounded.emplace_back();
      if (rounds_for(feeds[i], out[i])) rounded[i] = {as_int8(out[i]), layers_->of(*feeds[i]).factors.of_input.data()};
    }
  run_int8_attention(out, rounded, in, {pool_, {vector_, *int8_}, scratch_});
}

Int8Rows CpuKernels::rounded(const Tensor& x, const Int8Factors& factors, Tensor& memory) {
  const int64_t n = x.dim(0), d = x.dim(1);
  memory = host_tensor({int8_bytes(n, d)}, DType::u8);
  const Int8Rows rows = int8_rows(memory.data<void>(), n, d);
  for_row_blocks(pool_, n, d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      int8_->quantize({x.data<const float>() + i * d, factors.of_input.data()}, d, rows.at(i));
  });
  return rows;
}

/// Rounded again, for the branch's second matrix: what that costs is small beside the sums that the branch adds to.
Int8Term CpuKernels::add_low_rank(const Int8Term& layer, int64_t rows, const SideBranch& branch,
                                  const Int8Slab::Branch* kept, Tensor& memory, LowRank& low) {
  memory = host_tensor({int8_bytes(rows, branch.rank())}, DType::u8);
  Int8Product& down = low.rounded.emplace_back();
  down.product = {.rows = rows, .weight = &branch.down, .epilogue = &low.nothing, .result = {.rows_of_line = rows}};
  down.main = {.left = layer.left, .weight = &branch.down, .factors = layer.factors};
  down.rounded = int8_rows(memory.data<void>(), rows, branch.rank());
  low.numbers.emplace_back(std::span(down.rounded.scales, static_cast<size_t>(rows * down.rounded.groups())),
                           branch.factor);
  Int8Term up = {.left = down.rounded, .weight = &branch.up};
  if (kept != nullptr) {
    down.main.packed = &kept->down;
    up.packed = &kept->up;
  }
  return up;
}

std::vector<Int8Product> CpuKernels::int8_products(const LinearPart& part, Tensor& out, std::vector<Tensor>& memory,
                                                   LowRank& low) {
  const Int8Layer& layer = layers_->of(*part.layer);
  const bool was_fed = part.x.dtype() == DType::i8;
  Int8Product all;  // g++ 12 destroys members twice if a braced initialiser throws
  all.main.left = was_fed ? rows_of(part.x) : rounded(part.x, layer.factors, memory.emplace_back());
  all.main.factors = &layer.factors;
  const Linear* next = part.epilogue.feeds;
  const std::vector<MatrixProduct> slabs = products_of(part, out);
  if (slabs.size() == 1 && rounds_for(next, out)) {
    all.rounded = as_int8(out);
    all.next = &layers_->of(*next).factors;
  }
  std::vector<Int8Product> products(slabs.size(), all);
  for (size_t i = 0; i < slabs.size(); ++i) {
    products[i].product = slabs[i];
    products[i].main.weight = slabs[i].weight;
    const Int8Slab* kept = layer.packed.empty() ? nullptr : &layer.packed[i];
    if (!layer.in_place)
      products[i].main.packed = kept == nullptr ? nullptr : &kept->weight;
    else if (slabs[i].weight->format == WeightFormat::affine8)  // 4 bits are unpacked panel by panel
      products[i].main.packed = &low.in_place.emplace_back(layers_->view(*slabs[i].weight));
    const std::vector<SideBranch>& branches = part.layer->slabs[i].branches;
    for (size_t b = 0; b < branches.size(); ++b)
      products[i].added.push_back(add_low_rank(all.main, part.x.dim(0), branches[b],
                                               kept == nullptr ? nullptr : &kept->branches[b], memory.emplace_back(),
                                               low));
  }
  return products;
}

}  // namespace inkstone
