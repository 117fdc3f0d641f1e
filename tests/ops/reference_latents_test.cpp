#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ReferenceLatents = ReferenceTest;

/// Latents whose value tells where each stands: picture, channel, row, column as decimal digits.
Tensor places(const Shape& shape) {
  Tensor t = host_tensor(shape, DType::f32);
  float* to = t.data<float>();
  for (int64_t n = 0; n < shape[0]; ++n)
    for (int64_t c = 0; c < shape[1]; ++c)
      for (int64_t y = 0; y < shape[2]; ++y)
        for (int64_t x = 0; x < shape[3]; ++x) *to++ = static_cast<float>(1000 * n + 100 * c + 10 * y + x);
  return t;
}

TEST_F(ReferenceLatents, PatchifyOrdersFeaturesByChannelRowColumn) {
  const Tensor tokens = ops_.patchify(places({2, 3, 4, 6}), 2);
  // As _pack_latents of QwenImagePipeline in diffusers: token n = (y/2)(w/2) + x/2, feature k = c*4 + (y%2)*2 + x%2.
  for (int n = 0; n < 2; ++n)
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 6; ++x) {
          const int token = n * 6 + (y / 2) * 3 + x / 2;
          const int k = c * 4 + (y % 2) * 2 + x % 2;
          EXPECT_EQ(tokens.data<float>()[token * 12 + k], static_cast<float>(1000 * n + 100 * c + 10 * y + x));
        }
}

TEST_F(ReferenceLatents, UnpatchifyGivesLatentsWithChannelsLast) {
  const Shape shape = {2, 3, 4, 6};
  const Tensor latents = ops_.unpatchify(ops_.patchify(places(shape), 2), {2, 4, 6}, 2);
  for (int n = 0; n < 2; ++n)
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 6; ++x)
        for (int c = 0; c < 3; ++c)
          EXPECT_EQ(latents.data<float>()[((n * 4 + y) * 6 + x) * 3 + c],
                    static_cast<float>(1000 * n + 100 * c + 10 * y + x));
}

TEST_F(ReferenceLatents, OtherPatchSidesWork) {
  for (const int64_t patch : {1, 3}) {
    const Tensor latents = places({1, 2, 6, 3});
    const Tensor tokens = ops_.patchify(latents, patch);
    EXPECT_EQ(tokens.dim(1), 2 * patch * patch);
    EXPECT_EQ(tokens.data<float>()[patch - 1], static_cast<float>(patch - 1)) << "end of the first patch's first row";
    const Tensor back = ops_.unpatchify(tokens, {1, 6, 3}, patch);
    for (int64_t i = 0; i < 18; ++i) {
      EXPECT_EQ(back.data<float>()[2 * i], latents.data<float>()[i]);
      EXPECT_EQ(back.data<float>()[2 * i + 1], latents.data<float>()[18 + i]);
    }
  }
}

}  // namespace
}  // namespace inkstone
