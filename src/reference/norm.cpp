#include "reference/formulas.h"
#include "reference/reference_kernels.h"

namespace inkstone {

void ReferenceKernels::rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) {
  const int64_t d = x.dim(-1);
  for (int64_t i = 0; i < x.shape().rows(); ++i) {
    const float* from = x.data<const float>() + i * d;
    double squares = 0;
    for (int64_t j = 0; j < d; ++j) squares += double{from[j]} * from[j];
    const double root = std::sqrt(squares / static_cast<double>(d) + options.eps);
    for (int64_t j = 0; j < d; ++j) {  // each number is read once more before it is written: out may be x
      const double y = from[j] / root * weight.data<const float>()[j];
      out.data<float>()[i * d + j] = static_cast<float>(activate(y, options.activation));
    }
  }
}

void ReferenceKernels::layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const ModulatePart& part = parts[p];
    const int64_t d = part.x.dim(1);
    for (int64_t i = 0; i < part.x.dim(0); ++i) {
      const float* from = part.x.data<const float>() + i * d;
      double sum = 0, squares = 0;
      for (int64_t j = 0; j < d; ++j) sum += from[j];
      const double mean = sum / static_cast<double>(d);
      for (int64_t j = 0; j < d; ++j) squares += (from[j] - mean) * (from[j] - mean);
      const double root = std::sqrt(squares / static_cast<double>(d) + eps);
      const float* scale = vector_of(part.scale, i);
      const float* shift = vector_of(part.shift, i);
      for (int64_t j = 0; j < d; ++j)
        out[p].data<float>()[i * d + j] = static_cast<float>((from[j] - mean) / root * (1.0 + scale[j]) + shift[j]);
    }
  }
}

}  // namespace inkstone
