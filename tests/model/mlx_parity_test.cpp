// What is special about folders of mflux: packed layers, no config.json. That they compute the right thing, held packed
// or dequantised, is tested with all other models in the *_parity_test files.
#include <algorithm>
#include <gmock/gmock.h>

#include "model/parity.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

class MlxParityTest : public DeviceTest {
 protected:
  static Checkpoint component(Component c) { return open_checkpoint(test_model("random_mlx") / name_of(c), c); }
};

const Weight& weight_of(const Linear& layer) { return layer.slabs.front().weight; }

TEST_P(MlxParityTest, LayersStayPackedWithTheirOwnBits) {
  const Checkpoint file = component(Component::transformer);
  ConfigOrigin origin;
  const TransformerConfig config = read_transformer_config(file, origin);
  WeightLoader loader(file, *device_);
  const TransformerWeights w = load_transformer(config, loader);
  const BlockWeights& block = w.blocks.front();
  for (const auto& [layer, format] : {std::pair(&w.img_in, WeightFormat::affine8),
                                      {&block.img.modulation, WeightFormat::affine8},
                                      {&block.txt.modulation, WeightFormat::affine4},
                                      {&block.img.qkv, WeightFormat::affine4},
                                      {&block.txt.down, WeightFormat::affine4},
                                      {&w.proj_out, WeightFormat::affine4}})
    EXPECT_EQ(weight_of(*layer).format, format);
  EXPECT_EQ(weight_of(w.txt_in).format, WeightFormat::bf16);
  EXPECT_EQ(weight_of(w.norm_out).format, WeightFormat::bf16);
}

TEST_P(MlxParityTest, DequantisedLayersComputeTheSame) {
  const Checkpoint file = component(Component::transformer);
  ConfigOrigin origin;
  const TransformerConfig config = read_transformer_config(file, origin);
  WeightLoader packed(file, *device_);
  WeightLoader widened(file, *device_, DType::f32);
  const Tensor x = ops_.upload(Expected("random_mlx")["transformer.batch.img_in"]);
  const Linear a = packed.linear("transformer_blocks.0.attn.to_q", config.width(), config.width());
  const Linear b = widened.linear("transformer_blocks.0.attn.to_q", config.width(), config.width());
  ASSERT_EQ(weight_of(a).format, WeightFormat::affine4);
  ASSERT_EQ(weight_of(b).format, WeightFormat::f32);
  EXPECT_LE(relative_error(ops_.download(ops_.linear(x, a)), ops_.download(ops_.linear(x, b))), tolerance(1e-6));
}

TEST_P(MlxParityTest, ConfigurationsComeFromShapesAndSaySo) {
  ConfigOrigin origin;
  const TransformerConfig t = read_transformer_config(component(Component::transformer), origin);
  EXPECT_TRUE(origin.inferred);
  EXPECT_THAT(origin.note, HasSubstr("1 blocks, 1 heads of 128"));
  EXPECT_EQ(t.layers, 1);
  EXPECT_EQ(t.heads, 1);
  EXPECT_EQ(t.text_width, 64);
  EXPECT_EQ(t.rope_axes, (std::array<int64_t, 3>{16, 56, 56}));

  const VaeConfig v = read_vae_config(component(Component::vae), origin);
  EXPECT_TRUE(origin.inferred);
  EXPECT_EQ(v.base, 2);
  EXPECT_EQ(v.multipliers, (std::vector<int64_t>{1, 2, 4, 4}));

  read_text_encoder_config(component(Component::text_encoder), origin);
  EXPECT_FALSE(origin.inferred) << "it has a config.json";
}

INKSTONE_ON_ALL_DEVICES(MlxParityTest);

}  // namespace
}  // namespace inkstone
