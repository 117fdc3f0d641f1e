#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"
#include "cpu/sequence_vectors.h"

namespace inkstone {

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
  for_row_blocks(pool_, rows, d, [&](const RowBlock& block) {
    const ModulatePart& part = parts[block.part];
    SequenceVectors scale(part.scale), shift(part.shift);
    const float* from = part.x.data<const float>();
    float* to = out[block.part].data<float>();
    for (int64_t i = block.begin; i < block.end; ++i)
      vector_.layer_norm_modulate(from + i * d, scale.at(i), shift.at(i), eps, d, to + i * d);
  });
}

}  // namespace inkstone
