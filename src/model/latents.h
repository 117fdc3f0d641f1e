// The latent picture: sizes, noise, and the two orders of its numbers.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace inkstone {

/// A picture's size in tokens of the transformer.
struct Grid {
  int64_t height = 0;
  int64_t width = 0;

  int64_t tokens() const { return height * width; }
  bool operator==(const Grid&) const = default;
};

/// The grid of a picture of `width` x `height` pixels, where a token covers `unit` x `unit` of them. Error unless both
/// are positive multiples of `unit`, naming the nearest sizes that are.
Grid grid_of(int64_t width, int64_t height, int64_t unit);

/// Standard normal latents (count, channels, height, width) as the pipeline of diffusers draws them on the CPU: picture
/// i from a generator with seed + i.
Tensor make_noise(uint64_t seed, const Shape& shape);

/// Packed tokens (count * grid, channels * patch²) as latents (count, channels, height, width); host f32 tensors.
Tensor unpack_latents(const Tensor& tokens, const Shape& latents, int64_t patch);

}  // namespace inkstone
