// The decoder of the published widths on a GPU: other kernels run than for small layers.
#include <gtest/gtest.h>

#include "cuda/cuda_device.h"
#include "engine/random_weights.h"
#include "model/vae.h"
#include "ops/ops.h"

namespace inkstone {
namespace {

TEST(CudaBandsTest, GiveTheWholePictureNumberByNumber) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  const auto device = make_cuda_device({.arithmetic = CudaArithmetic::bf16});
  Ops ops(*device);
  RandomWeights random(*device, RandomFormat::bf16, 2);
  VaeConfig config;
  config.latents_mean.assign(static_cast<size_t>(config.latent_channels), 0.0);
  config.latents_std.assign(static_cast<size_t>(config.latent_channels), 1.0);
  const VaeWeights weights = load_vae(config, random);
  for (const Shape& shape : {Shape{1, 72, 40, config.latent_channels}, Shape{1, 33, 166, config.latent_channels}}) {
    const Tensor latents = random.activations(shape);
    const Tensor whole = ops.download(decode(ops, config, weights, latents));
    for (const int64_t rows : {1, 4, 8, 16, 32}) {
      const Tensor banded = ops.download(decode(ops, config, weights, latents, rows));
      ASSERT_EQ(banded.shape(), whole.shape());
      int64_t others = 0;
      for (int64_t i = 0; i < whole.count(); ++i) others += banded.data<float>()[i] != whole.data<float>()[i];
      EXPECT_EQ(others, 0) << shape.text() << " in bands of " << rows;
    }
  }
}

}  // namespace
}  // namespace inkstone
