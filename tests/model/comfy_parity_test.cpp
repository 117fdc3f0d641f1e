// What is special about ComfyUI's files: fp8 layers stay packed on every device, and no config.json is needed.
#include <algorithm>
#include <gmock/gmock.h>
#include <numeric>

#include "io/files.h"
#include "model/parity.h"
#include "model/transformer.h"
#include "model/vae.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

constexpr const char* kPrefix = "model.diffusion_model.";

/// As E4M3, cut off: what is compared is how these numbers are read, not how near they are.
Tensor cut_to_e4m3(const Tensor& wide, float scale) {
  const Tensor codes = host_tensor(wide.shape(), DType::f8_e4m3);
  std::vector<float> numbers(127);  // of the positive codes
  const Tensor all = host_tensor({1, 127}, DType::f8_e4m3);
  std::iota(all.data<uint8_t>(), all.data<uint8_t>() + 127, uint8_t{0});
  dequantize_rows(dense_weight(all), 0, 1, numbers.data());
  for (int64_t i = 0; i < wide.count(); ++i) {
    const float x = wide.data<const float>()[i] / scale;
    const auto best = std::upper_bound(numbers.begin(), numbers.end(), std::abs(x)) - numbers.begin() - 1;
    codes.data<uint8_t>()[i] = static_cast<uint8_t>(best | (x < 0 ? 0x80 : 0));
  }
  return codes;
}

class ComfyParityTest : public DeviceTest {
 protected:
  /// random_b's transformer, matrices in scaled fp8, vectors in plain fp8; with its config.json beside.
  Checkpoint scaled_transformer() const {
    const fs::path source = test_model("random_b") / "transformer";
    constexpr float kScale = 0.01f;
    std::map<std::string, Tensor> tensors = {{std::string(kPrefix) + "scaled_fp8", host_tensor({2}, DType::f8_e4m3)}};
    for (const auto& [stored, tensor] : open_checkpoint(source, Component::transformer).tensors) {
      const std::string name = kPrefix + stored;
      const bool matrix = tensor.data.shape().rank() == 2;
      tensors.emplace(name, cut_to_e4m3(to_f32(tensor.data), matrix ? kScale : 1));
      if (matrix)
        tensors.emplace(name.substr(0, name.rfind('.')) + ".scale_weight", host_tensor(std::span(&kScale, 1)));
    }
    write_safetensors(folder_ / "t.safetensors", tensors);
    fs::copy_file(source / "config.json", folder_ / "config.json");
    return open_checkpoint(folder_ / "t.safetensors", Component::transformer);
  }

  const TemporaryFolder folder_;
};

TEST_P(ComfyParityTest, ScaledFp8StaysPackedAndComputesTheSame) {
  const Checkpoint file = scaled_transformer();
  ConfigOrigin origin;
  const TransformerConfig config = read_transformer_config(file, origin);
  EXPECT_FALSE(origin.inferred);
  WeightLoader packed(file, *device_), widened(file, *device_, DType::f32);
  const TransformerWeights a = load_transformer(config, packed), b = load_transformer(config, widened);
  packed.finish();
  widened.finish();
  const auto expect_same = [&](const Linear& x, const Linear& y) {
    EXPECT_EQ(x.slabs.front().weight.format, WeightFormat::f8_e4m3);
    EXPECT_EQ(y.slabs.front().weight.format, WeightFormat::f32);
    const Tensor input = host_tensor({3, x.in()}, DType::f32);
    for (int64_t i = 0; i < input.count(); ++i) input.data<float>()[i] = std::sin(static_cast<float>(i));
    const Tensor uploaded = ops_.upload(input);
    const auto product = [&](const Linear& layer) { return to_f32(ops_.download(ops_.linear(uploaded, layer))); };
    EXPECT_LE(relative_error(product(x), product(y)), 1e-6);
  };
  expect_same(a.img_in, b.img_in);
  expect_same(a.proj_out, b.proj_out);
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    expect_same(a.blocks[i].img.modulation, b.blocks[i].img.modulation);
    expect_same(a.blocks[i].img.qkv, b.blocks[i].img.qkv);
    expect_same(a.blocks[i].img.down, b.blocks[i].img.down);
    expect_same(a.blocks[i].txt.qkv, b.blocks[i].txt.qkv);
  }
}

TEST_P(ComfyParityTest, ConfigurationsComeFromShapesAndSaySo) {
  const std::string prefix = kPrefix;
  std::map<std::string, Tensor> tensors = {
      {prefix + "img_in.weight", host_tensor({256, 64}, DType::f8_e4m3)},
      {prefix + "img_in.scale_weight", host_tensor({}, DType::f32)},
      {prefix + "txt_norm.weight", host_tensor({32}, DType::bf16)},
      {prefix + "transformer_blocks.0.attn.norm_q.weight", host_tensor({128}, DType::bf16)},
      {prefix + "transformer_blocks.4.attn.norm_q.weight", host_tensor({128}, DType::bf16)},
      {"vae.decoder.conv1.weight", host_tensor({12, 16, 3, 3, 3}, DType::bf16)},
      {"vae.decoder.head.2.weight", host_tensor({3, 3, 3, 3, 3}, DType::bf16)}};
  const int64_t widths[] = {12, 12, 6, 3};  // of the stages: three blocks and an up-sampler each
  for (int stage = 0; stage < 4; ++stage)
    for (int block = 0; block < 3; ++block)
      tensors[fmt::format("vae.decoder.upsamples.{}.residual.2.weight", 4 * stage + block)] =
          host_tensor({widths[stage], 3, 3, 3, 3}, DType::bf16);
  write_safetensors(folder_ / "all.safetensors", tensors);
  ConfigOrigin origin;
  const TransformerConfig t =
      read_transformer_config(open_checkpoint(folder_ / "all.safetensors", Component::transformer), origin);
  EXPECT_TRUE(origin.inferred);
  EXPECT_THAT(origin.note, HasSubstr("5 blocks, 2 heads of 128"));
  EXPECT_EQ(t.text_width, 32);
  EXPECT_EQ(t.out_channels, 16);

  const VaeConfig v = read_vae_config(open_checkpoint(folder_ / "all.safetensors", Component::vae), origin);
  EXPECT_TRUE(origin.inferred);
  EXPECT_EQ(v.base, 3);
}

INKSTONE_ON_ALL_DEVICES(ComfyParityTest);

}  // namespace
}  // namespace inkstone
