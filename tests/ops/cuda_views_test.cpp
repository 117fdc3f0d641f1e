// Tensors that lie where kernels of the cuda device cannot read several numbers at once.
#include <gtest/gtest.h>

#include "ops/random_conv.h"

namespace inkstone {
namespace {

/// The same numbers on the device, behind one more.
Tensor behind_another(Device& device, const Tensor& vector) {
  const Tensor more = host_tensor({vector.count() + 1}, DType::f32);
  std::ranges::copy(vector.span<const float>(), more.data<float>() + 1);
  return device.upload(more).rows(1, more.count());
}

TEST(CudaViewsTest, BiasAndNormOfAConvolutionMayLieAnywhere) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  const auto device = make_cuda_device(), host = make_reference_device();
  constexpr int64_t kChannels = 96;  // of which a tile has all
  const Tensor x = random_normal({1, 9, 35, kChannels}, 1);
  Conv2d conv = random_conv(kChannels, kChannels);
  conv.norm = random_normal({kChannels}, 5);
  conv.norm_options.activation = Activation::silu;
  const Tensor expected = Ops(*host).conv2d(x, conv);
  for (const bool odd_bias : {false, true})
    for (const bool odd_norm : {false, true}) {
      Conv2d there = conv;
      there.weight = device->upload(conv.weight);
      there.bias = odd_bias ? behind_another(*device, conv.bias) : device->upload(conv.bias);
      there.norm = odd_norm ? behind_another(*device, conv.norm) : device->upload(conv.norm);
      const Tensor y = to_f32(device->download(Ops(*device).conv2d(device->upload(x), there)));
      EXPECT_LT(relative_l2(y, expected), 4 * kNarrowRounding) << odd_bias << odd_norm;
    }
}

}  // namespace
}  // namespace inkstone
