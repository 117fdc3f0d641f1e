#include <cmath>

#include "cuda/apart.h"
#include "cuda/cuda_kernels.h"
#include "cuda/views.h"

namespace inkstone {

void CudaKernels::embed(Tensor& out, const Weight& table, const Tensor& ids) {
  cuda::embed(out.data<float>(), matrix(table), ids.data<const int32_t>(), ids.count(), context_.stream());
  check_launch("embed");
}

void CudaKernels::rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) {
  if (options.activation != Activation::none) out = retyped(out, context_.operand_or(out.dtype()));
  cuda::rms_norm({.out = output(out),
                  .x = numbers(x),
                  .weight = weight.data<const float>(),
                  .eps = options.eps,
                  .activation = options.activation},
                 x.shape().rows(), x.dim(-1), context_.stream());
  check_launch("rms_norm");
}

void CudaKernels::layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) {
  std::vector<cuda::ModulatedNorm> norms(parts.size());
  std::vector<PartWork> works;
  for (size_t p = 0; p < parts.size(); ++p) {
    const ModulatePart& part = parts[p];
    const int64_t width = part.x.dim(1);
    const bool in_fours = lies_in_fours(part.x) && lies_in_fours(part.shift.table) && lies_in_fours(part.scale.table);
    const bool rounds = uses_fp8(part.feeds) && width <= cuda::kMaxRoundedNorm && in_fours;  // the kernel reads fours
    out[p] = retyped(out[p], rounds ? DType::f8_e4m3 : context_.operand_or(out[p].dtype()));
    norms[p] = {.rows = part.x.dim(0),
                .width = width,
                .out = output(out[p]),
                .rounded = rounds ? rounded(out[p]) : cuda::Rounded{},
                .x = numbers(part.x),
                .eps = eps};
    works.push_back(
        {norms[p].rows, {part.x, part.shift.table, part.shift.row, part.scale.table, part.scale.row}, {out[p]}});
  }
  const auto place_vectors = [&](size_t p) {
    norms[p].shift = row_vectors(context_, parts[p].shift);
    norms[p].scale = row_vectors(context_, parts[p].scale);
  };
  if (context_.is_forked()) {
    run_apart(context_, works, [&](size_t p) {
      place_vectors(p);
      cuda::layer_norm_modulate(&norms[p], 1, context_.stream());
    });
  } else {
    for (size_t p = 0; p < parts.size(); ++p) place_vectors(p);
    cuda::layer_norm_modulate(norms.data(), static_cast<int>(norms.size()), context_.stream());
  }
  check_launch("layer_norm_modulate");
}

void CudaKernels::swiglu(Tensor& out, const Tensor& x) {
  out = retyped(out, context_.operand_or(out.dtype()));
  cuda::swiglu(output(out), numbers(x), out.dim(0), out.dim(1), context_.stream());
  check_launch("swiglu");
}

void CudaKernels::timestep_embedding(Tensor& out, const Tensor& t) {
  cuda::timestep_embedding(out.data<float>(), t.data<const float>(), t.count(), out.dim(1) / 2, context_.stream());
  check_launch("timestep_embedding");
}

namespace {

cuda::Patches patches(int64_t features, int64_t channels, int64_t height, int64_t width) {
  return {static_cast<int64_t>(std::lround(std::sqrt(features / channels))), channels, height, width};
}

}  // namespace

void CudaKernels::patchify(Tensor& out, const Tensor& latents) {
  cuda::patchify(out.data<float>(), numbers(latents),
                 patches(out.dim(1), latents.dim(1), latents.dim(2), latents.dim(3)), latents.count(),
                 context_.stream());
  check_launch("patchify");
}

void CudaKernels::unpatchify(Tensor& out, const Tensor& tokens) {
  cuda::unpatchify(out.data<float>(), numbers(tokens), patches(tokens.dim(1), out.dim(3), out.dim(1), out.dim(2)),
                   out.count(), context_.stream());
  check_launch("unpatchify");
}

void CudaKernels::guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  cuda::guided_step({.out = out.data<float>(),
                     .x = numbers(x),
                     .cond = numbers(guidance.cond),
                     .uncond = numbers(guidance.uncond),
                     .scale = guidance.scale.data<const float>(),
                     .factor = factor.data<const float>()},
                    x.dim(0), x.dim(1), context_.stream());
  check_launch("guided_step");
}

void CudaKernels::add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) {
  cuda::add_scaled(out.data<float>(), numbers(x), numbers(y), factor.data<const float>(), x.count(), context_.stream());
  check_launch("add_scaled");
}

void CudaKernels::scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) {
  cuda::scale_shift(out.data<float>(), numbers(x), scale.data<const float>(), shift.data<const float>(), x.count(),
                    x.dim(-1), context_.stream());
  check_launch("scale_shift");
}

void CudaKernels::concat_rows(Tensor& out, std::span<const Tensor> parts) {
  int64_t row = 0;
  for (const Tensor& part : parts) {
    cuda::convert(output(out.rows(row, row + part.dim(0))), numbers(part), part.count(), context_.stream());
    row += part.dim(0);
  }
  check_launch("concat_rows");
}

void CudaKernels::to_rgb8(Tensor& out, const Tensor& x) {
  cuda::to_rgb8(out.data<uint8_t>(), numbers(x), x.count(), context_.stream());
  check_launch("to_rgb8");
}

void CudaKernels::from_rgb8(Tensor& out, const Tensor& x) {
  cuda::from_rgb8(out.data<float>(), x.data<const uint8_t>(), x.count(), context_.stream());
  check_launch("from_rgb8");
}

}  // namespace inkstone
