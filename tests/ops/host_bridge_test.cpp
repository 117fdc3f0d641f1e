// The bridge only carries: over a device that reads host memory it changes no number.
#include "ops/host_bridge.h"

#include <gtest/gtest.h>

#include "ops/decorated.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

class HostBridgeTest : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_reference_device();
  HostBridge bridge_{*device_};
  Ops plain_{*device_}, bridged_{*device_, bridge_};
};

TEST_F(HostBridgeTest, CarriesLayersNormsAndAttention) {
  EXPECT_EQ(values_of(run_some_ops(bridged_)), values_of(run_some_ops(plain_)));
}

TEST_F(HostBridgeTest, CarriesEpiloguesAndModulation) {
  const Sequences sequences(std::vector<int64_t>{2, 5});
  const Tensor x = random_normal({7, 32}, 1), table = random_normal({4, 32}, 2);
  const SequenceRows rows = {table, host_tensor(std::vector<int32_t>{0, 2}), 1, &sequences};
  const Linear layer = random_layer(WeightFormat::affine4, 32, 32, 3);
  const Epilogue epilogue = {.activation = Activation::silu, .gate = rows, .residual = x};
  EXPECT_EQ(values_of(bridged_.linear(x, layer, epilogue)), values_of(plain_.linear(x, layer, epilogue)));
  EXPECT_EQ(values_of(bridged_.layer_norm_modulate({{x, rows, rows}}, 1e-6f)[0]),
            values_of(plain_.layer_norm_modulate({{x, rows, rows}}, 1e-6f)[0]));
}

TEST_F(HostBridgeTest, CarriesPictures) {
  const Tensor x = random_normal({1, 4, 6, 3}, 1), residual = random_normal({1, 4, 6, 5}, 2);
  const Conv2d conv = {.weight = random_normal({5, 3, 3, 3}, 3), .bias = random_normal({5}, 4)};
  EXPECT_EQ(values_of(bridged_.conv2d(x, conv, residual)), values_of(plain_.conv2d(x, conv, residual)));
  const Tensor bytes = bridged_.to_rgb8(x);
  EXPECT_EQ(values_of(bridged_.from_rgb8(bytes)), values_of(plain_.from_rgb8(plain_.to_rgb8(x))));
  const Tensor tokens = bridged_.patchify(x.reshape({1, 3, 4, 6}), 2);
  EXPECT_EQ(values_of(bridged_.unpatchify(tokens, {1, 4, 6}, 2)), values_of(plain_.unpatchify(tokens, {1, 4, 6}, 2)));
}

TEST_F(HostBridgeTest, CarriesStepsOfTheSampler) {
  const Tensor a = random_normal({3, 8}, 1), b = random_normal({3, 8}, 2), factor = random_normal({1}, 3);
  const Guidance guidance = {a, b, random_normal({1}, 7)};
  EXPECT_EQ(values_of(bridged_.guided_step(b, guidance, factor)), values_of(plain_.guided_step(b, guidance, factor)));
  EXPECT_EQ(values_of(bridged_.add_scaled(a, b, factor)), values_of(plain_.add_scaled(a, b, factor)));
  EXPECT_EQ(values_of(bridged_.concat_rows({a, b})), values_of(plain_.concat_rows({a, b})));
  EXPECT_EQ(values_of(bridged_.swiglu(a)), values_of(plain_.swiglu(a)));
  EXPECT_EQ(values_of(bridged_.timestep_embedding(factor, 16)), values_of(plain_.timestep_embedding(factor, 16)));
  const Tensor row = random_normal({8}, 4);
  EXPECT_EQ(values_of(bridged_.scale_shift(a, row, row)), values_of(plain_.scale_shift(a, row, row)));
  const Weight words = random_weight(WeightFormat::bf16, 9, 32, 5);
  const Tensor ids = random_indices(4, 9, 6);
  EXPECT_EQ(values_of(bridged_.embed(words, ids)), values_of(plain_.embed(words, ids)));
}

}  // namespace
}  // namespace inkstone
