#include <algorithm>

#include "model/parity.h"
#include "model/vae.h"

namespace inkstone {
namespace {

class VaeParityTest : public ParityTest {
 protected:
  VaeParityTest() : checkpoint_(checkpoint(Component::vae)) {
    ConfigOrigin origin;
    config_ = read_vae_config(checkpoint_, origin);
    WeightLoader loader(checkpoint_, *device_, held());
    weights_ = load_vae(config_, loader);
  }

  Checkpoint checkpoint_;
  VaeConfig config_;
  VaeWeights weights_;
};

Tensor clamped(const Tensor& pixels) {
  const Tensor out = host_tensor(pixels.shape(), DType::f32);
  const auto from = pixels.span<const float>();
  std::transform(from.begin(), from.end(), out.data<float>(), [](float x) { return std::clamp(x, -1.0f, 1.0f); });
  return out;
}

TEST_P(VaeParityTest, Decode) {
  for (const auto& recorded : expected_.cases("decode")) {
    const std::string name = recorded.at("name");
    const Tensor pixels = decode(ops_, config_, weights_, upload(name + ".latents"));
    EXPECT_EQ(pixels.shape(), expected_[name + ".pixels"].shape());
    expect_equal(ops_.upload(clamped(ops_.download(pixels))), name + ".pixels");

    const Tensor image = ops_.download(ops_.to_rgb8(pixels));
    const Tensor expected = expected_[name + ".image"];
    if (is_narrow(GetParam().device)) {
      expect_like_picture(image.span<const uint8_t>(), expected.span<const uint8_t>());
    } else {
      expect_same_picture(image.span<const uint8_t>(), expected.span<const uint8_t>());
    }
  }
}

TEST_P(VaeParityTest, Encode) {
  for (const auto& recorded : expected_.cases("encode")) {
    const std::string name = recorded.at("name");
    const Tensor latents = encode(ops_, config_, weights_, upload(name + ".pixels"));
    EXPECT_EQ(latents.shape(), expected_[name + ".latents"].shape());
    SCOPED_TRACE(name);
    expect_equal(latents, expected_[name + ".latents"], kNarrowEncodeTolerance);
  }
}

INKSTONE_ON_ALL_MODELS(VaeParityTest);

// A causal convolution of one frame, literally: two frames of zeros before it, a border of zeros around it.
Tensor causal_convolution(const Tensor& x, const Tensor& kernel, const Tensor& bias) {
  const int64_t height = x.dim(1), width = x.dim(2), in = x.dim(3), out = kernel.dim(0);
  const auto at = [&](int64_t frame, int64_t row, int64_t column, int64_t channel) {
    const bool inside = frame == 0 && row >= 0 && row < height && column >= 0 && column < width;
    return inside ? x.data<const float>()[(row * width + column) * in + channel] : 0.0f;
  };
  const Tensor y = host_tensor({1, height, width, out}, DType::f32);
  float* to = y.data<float>();
  for (int64_t row = 0; row < height; ++row)
    for (int64_t column = 0; column < width; ++column)
      for (int64_t o = 0; o < out; ++o) {
        double sum = bias.data<const float>()[o];
        const float* w = kernel.data<const float>() + o * in * 27;
        for (int64_t i = 0; i < in; ++i)
          for (int64_t t = 0; t < 3; ++t)
            for (int64_t dy = 0; dy < 3; ++dy)
              for (int64_t dx = 0; dx < 3; ++dx)
                sum += static_cast<double>(*w++) * at(t - 2, row + dy - 1, column + dx - 1, i);
        *to++ = static_cast<float>(sum);
      }
  return y;
}

class VaeDeviceTest : public DeviceTest {};

TEST_P(VaeDeviceTest, OneFrameOfACausalConvolutionIsItsLastSlice) {
  const Checkpoint file = open_checkpoint(test_model("random_a") / "vae", Component::vae);
  const StoredTensor* kernel = file.find("decoder.conv_in.weight");  // (out, in, 3, 3, 3)
  ASSERT_NE(kernel, nullptr);
  ASSERT_EQ(kernel->data.shape().rank(), 5);
  const Tensor x = Expected("random_a")["vae.decode.odd.latents"];
  WeightLoader loader(file, *device_);
  const Conv2d folded = loader.conv2d("decoder.conv_in", kernel->data.dim(0), kernel->data.dim(1));
  const Tensor expected = causal_convolution(x, kernel->data, file.find("decoder.conv_in.bias")->data);
  EXPECT_LE(relative_error(ops_.download(ops_.conv2d(ops_.upload(x), folded)), expected), tolerance(1e-6));
}

INKSTONE_ON_ALL_DEVICES(VaeDeviceTest);

}  // namespace
}  // namespace inkstone
