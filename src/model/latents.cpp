#include "model/latents.h"

#include <algorithm>

#include "core/option_error.h"
#include "core/random.h"

namespace inkstone {
namespace {

void check_side(const char* name, int64_t pixels, int64_t unit) {
  if (pixels > 0 && pixels % unit == 0) return;
  const int64_t below = std::max(pixels / unit, int64_t{1}) * unit;
  fail_option("{} {}: this model draws multiples of {} pixels; the nearest are {} and {}", name, pixels, unit, below,
              below + unit);
}

}  // namespace

Grid grid_of(int64_t width, int64_t height, int64_t unit) {
  check_side("width", width, unit);
  check_side("height", height, unit);
  return {.height = height / unit, .width = width / unit};
}

Tensor make_noise(uint64_t seed, const Shape& shape) {
  Tensor noise = host_tensor(shape, DType::f32);
  for (int64_t i = 0; i < shape[0]; ++i)
    torch_normal(seed + static_cast<uint64_t>(i), noise.rows(i, i + 1).span<float>());
  return noise;
}

Tensor unpack_latents(const Tensor& tokens, const Shape& latents, int64_t patch) {
  const int64_t channels = latents[1], height = latents[2], width = latents[3];
  const int64_t grid_width = width / patch;
  const int64_t features = tokens.dim(1);
  check(tokens.count() == latents.count(), "tokens {} do not hold latents {}", tokens.shape().text(), latents.text());
  Tensor out = host_tensor(latents, DType::f32);
  const float* from = tokens.data<float>();
  float* to = out.data<float>();
  for (int64_t image = 0; image < latents[0]; ++image)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
          const int64_t token = (image * (height / patch) + y / patch) * grid_width + x / patch;
          const int64_t feature = (c * patch + y % patch) * patch + x % patch;
          *to++ = from[token * features + feature];
        }
  return out;
}

}  // namespace inkstone
