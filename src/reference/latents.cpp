#include <cmath>

#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

/// One latent: picture, channel, row and column.
struct Place {
  int64_t picture, channel, row, column;
};

/// Sizes that both orders share.
struct Patches {
  int64_t side, channels, height, width;  // height and width of a picture in latents

  Patches(int64_t features, int64_t z, int64_t h, int64_t w)
      : side(std::lround(std::sqrt(features / z))), channels(z), height(h), width(w) {}

  int64_t features() const { return channels * side * side; }

  /// Where a latent lies among the tokens: feature = (channel, row in the patch, column in the patch).
  int64_t index(const Place& p) const {
    const int64_t token = (p.picture * (height / side) + p.row / side) * (width / side) + p.column / side;
    return token * features() + (p.channel * side + p.row % side) * side + p.column % side;
  }

  template <class F>
  void for_each(int64_t pictures, const F& f) const {
    for (int64_t picture = 0; picture < pictures; ++picture)
      for (int64_t channel = 0; channel < channels; ++channel)
        for (int64_t row = 0; row < height; ++row)
          for (int64_t column = 0; column < width; ++column) f(Place{picture, channel, row, column});
  }
};

}  // namespace

void ReferenceKernels::patchify(Tensor& out, const Tensor& latents) {
  const Patches patches(out.dim(1), latents.dim(1), latents.dim(2), latents.dim(3));
  const float* from = latents.data<const float>();
  patches.for_each(latents.dim(0), [&](const Place& p) { out.data<float>()[patches.index(p)] = *from++; });
}

void ReferenceKernels::unpatchify(Tensor& out, const Tensor& tokens) {
  const Patches patches(tokens.dim(1), out.dim(3), out.dim(1), out.dim(2));
  patches.for_each(out.dim(0), [&](const Place& p) {
    const int64_t pixel = (p.picture * patches.height + p.row) * patches.width + p.column;
    out.data<float>()[pixel * patches.channels + p.channel] = tokens.data<const float>()[patches.index(p)];
  });
}

}  // namespace inkstone
