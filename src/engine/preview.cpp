#include "engine/preview.h"

#include <algorithm>

#include "core/rounding.h"
#include "model/latents.h"

namespace inkstone {
namespace {

constexpr int64_t kMostLatents = 32;  // of a preview's longer side: a small picture whole, little work for a large one

/// Of the squares of latents of which a preview has the means.
int64_t side_of_squares(const Shape& latents) { return divide_up(std::max(latents[2], latents[3]), kMostLatents); }

/// Latents (1, z, h, w) as preview_latents() has them.
Tensor averaged(const Tensor& latents) {
  const int64_t channels = latents.dim(1), height = latents.dim(2), width = latents.dim(3);
  const int64_t side = side_of_squares(latents.shape());
  const Tensor small = host_tensor(preview_latents(latents.shape()), DType::f32);
  float* to = small.data<float>();
  for (int64_t row = 0; row < small.dim(1); ++row)
    for (int64_t column = 0; column < small.dim(2); ++column)
      for (int64_t channel = 0; channel < channels; ++channel) {
        float sum = 0;
        int64_t count = 0;
        for (int64_t y = row * side; y < std::min(height, (row + 1) * side); ++y)
          for (int64_t x = column * side; x < std::min(width, (column + 1) * side); ++x, ++count)
            sum += latents.data<const float>()[(channel * height + y) * width + x];
        *to++ = sum / static_cast<float>(count);
      }
  return small;
}

}  // namespace

Shape preview_latents(const Shape& latents) {
  const int64_t side = side_of_squares(latents);
  return {1, divide_up(latents[2], side), divide_up(latents[3], side), latents[1]};
}

bool Previews::wants(int64_t step) const {
  return step < job_.steps && ((step + 1) % request_.preview_every == 0 || step + 1 == job_.steps);
}

void Previews::begin(int64_t first, const Tensor& tokens) {
  first_ = first;
  before_ = wants(0) ? ops_.download(tokens) : Tensor{};
}

Tensor Previews::expected(int64_t step, const Tensor& after) const {
  const float from = job_.sigmas[static_cast<size_t>(step)], to = job_.sigmas[static_cast<size_t>(step) + 1];
  const Tensor tokens = host_tensor(after.shape(), DType::f32);
  std::ranges::transform(after.span<const float>(), before_.span<const float>(), tokens.data<float>(),
                         [&](float x, float before) { return x - to * (x - before) / (to - from); });
  return unpack_latents(tokens, job_.latents.with_first(tokens.dim(0) / job_.grid.tokens()), model_.transformer.patch);
}

void Previews::step_done(int64_t step, const Tensor& tokens) {
  const bool wanted = wants(step), next_wanted = wants(step + 1);
  const Tensor after = wanted || next_wanted ? ops_.download(tokens) : Tensor{};
  if (wanted) send(step, expected(step, after));
  before_ = next_wanted ? after : Tensor{};
}

void Previews::send(int64_t step, const Tensor& latents) const {
  for (int64_t i = 0; i < latents.dim(0); ++i) {
    const Tensor small = ops_.upload(averaged(latents.rows(i, i + 1)));
    const Tensor pixels = ops_.download(ops_.to_rgb8(decode(ops_, model_.vae, vae_, small)));
    const auto rgb = pixels.span<const uint8_t>();
    request_.preview({.picture = first_ + i,
                      .step = step + 1,
                      .steps = job_.steps,
                      .width = pixels.dim(2),
                      .height = pixels.dim(1),
                      .rgb = {rgb.begin(), rgb.end()}});
  }
}

}  // namespace inkstone
