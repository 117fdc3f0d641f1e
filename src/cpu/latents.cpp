// The two orders of latents: feature = (channel, row in the patch, column in the patch).
#include <cmath>

#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"

namespace inkstone {
namespace {

int64_t patch_side(int64_t features, int64_t channels) {
  return std::lround(std::sqrt(static_cast<double>(features / channels)));
}

}  // namespace

void CpuKernels::patchify(Tensor& out, const Tensor& latents) {
  const int64_t channels = latents.dim(1), height = latents.dim(2), width = latents.dim(3);
  const int64_t features = out.dim(1), p = patch_side(features, channels);
  const int64_t columns = width / p, rows = height / p;
  for_row_blocks(pool_, out.dim(0), features, [&](int64_t begin, int64_t end) {
    float* to = out.data<float>() + begin * features;
    for (int64_t token = begin; token < end; ++token) {
      const int64_t picture = token / (rows * columns), row = token / columns % rows, column = token % columns;
      for (int64_t z = 0; z < channels; ++z)
        for (int64_t dy = 0; dy < p; ++dy) {
          const int64_t line = (picture * channels + z) * height + row * p + dy;
          const float* from = latents.data<const float>() + line * width + column * p;
          for (int64_t dx = 0; dx < p; ++dx) *to++ = from[dx];
        }
    }
  });
}

void CpuKernels::unpatchify(Tensor& out, const Tensor& tokens) {
  const int64_t height = out.dim(1), width = out.dim(2), channels = out.dim(3);
  const int64_t features = tokens.dim(1), p = patch_side(features, channels);
  const int64_t columns = width / p, rows = height / p;
  for_row_blocks(pool_, tokens.dim(0), features, [&](int64_t begin, int64_t end) {
    const float* from = tokens.data<const float>() + begin * features;
    for (int64_t token = begin; token < end; ++token) {
      const int64_t picture = token / (rows * columns), row = token / columns % rows, column = token % columns;
      for (int64_t z = 0; z < channels; ++z)
        for (int64_t dy = 0; dy < p; ++dy) {
          const int64_t pixel = (picture * height + row * p + dy) * width + column * p;
          float* to = out.data<float>() + pixel * channels + z;
          for (int64_t dx = 0; dx < p; ++dx) to[dx * channels] = *from++;
        }
    }
  });
}

}  // namespace inkstone
