#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"
#include "cpu/sequence_vectors.h"

namespace inkstone {
namespace {

/// A result in 8 bits; without factors it is f32.
struct Rounding {
  Int8Rows rows;
  const Int8Factors* factors = nullptr;
};

}  // namespace

void CpuKernels::rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) {
  const int64_t d = x.dim(-1);
  const float *from = x.data<const float>(), *w = weight.data<const float>();
  float* to = out.data<float>();
  for_row_blocks(pool_, x.shape().rows(), d, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      vector_.rms_norm(from + i * d, w, options.eps, options.activation, d, to + i * d);
  });
}

void CpuKernels::layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) {
  const int64_t d = parts.front().x.dim(1);
  std::vector<int64_t> rows;
  for (const ModulatePart& part : parts) rows.push_back(part.x.dim(0));
  std::vector<Rounding> roundings(parts.size());
  for (size_t p = 0; p < parts.size(); ++p)
    if (rounds_for(parts[p].feeds, out[p])) roundings[p] = {as_int8(out[p]), &layers_->of(*parts[p].feeds).factors};
  for_row_blocks(pool_, rows, d, [&](const RowBlock& block) {
    const ModulatePart& part = parts[block.part];
    const Rounding& rounding = roundings[block.part];
    SequenceVectors scale(part.scale), shift(part.shift);
    const float* from = part.x.data<const float>();
    std::vector<float> row(rounding.factors == nullptr ? 0 : static_cast<size_t>(d));
    for (int64_t i = block.begin; i < block.end; ++i) {
      float* to = rounding.factors == nullptr ? out[block.part].data<float>() + i * d : row.data();
      vector_.layer_norm_modulate(from + i * d, scale.at(i), shift.at(i), eps, d, to);
      if (rounding.factors != nullptr) int8_->quantize({to, rounding.factors->of_input.data()}, d, rounding.rows.at(i));
    }
  });
}

}  // namespace inkstone
