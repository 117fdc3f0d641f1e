// Side branches that the cuda device adds to weights, when it binds bf16 ones or ahead of a product.
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

#include "model/block_source.h"
#include "ops/rounded_on_cuda.h"

namespace inkstone {
namespace {

class CudaMergeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  }

  static Linear placed(Device& device, const Linear& host, bool widened = false) {
    device.widen(widened);
    Linear layer = host;
    device.upload_weights(layer);
    layer.tolerance = std::make_shared<Tolerance>();
    device.round_weights(layer);
    return layer;
  }

  static Linear changed_layer(WeightFormat format, size_t branches) {
    Linear layer = tolerant(format, {70, 42}, 256, 3);
    add_branches(layer, branches);
    return layer;
  }

  /// By a thousandth of 1/16, which is about the size of its weights.
  static Linear slightly_changed(WeightFormat format) {
    Linear layer = {{{random_weight(format, 512, 256, 3), {}}}};
    layer.slabs[0].branches.push_back(
        {random_weight(WeightFormat::f32, 1, 256, 4), random_weight(WeightFormat::f32, 512, 1, 5), 1e-3f});
    return layer;
  }

  static void expect_changed(const Tensor& after, const Slab& slab) {
    const Tensor before = dense(slab.weight), wanted = merged(slab);
    double along = 0, size = 0;
    for (int64_t i = 0; i < before.count(); ++i) {
      const double change = wanted.data<float>()[i] - before.data<float>()[i];
      along += change * (after.data<float>()[i] - before.data<float>()[i]);
      size += change * change;
    }
    EXPECT_NEAR(along / size, 1, 0.1);
    EXPECT_LT(relative_l2(after, wanted), kNarrowRounding);
  }
};

TEST_F(CudaMergeTest, TheLayerComputesWhatItDidWithBranches) {
  const auto device = make_cuda_device();
  Ops ops(*device);
  for (const size_t branches : {1u, 3u}) {
    const Linear layer = changed_layer(WeightFormat::bf16, branches), there = placed(*device, layer);
    for (const Slab& slab : there.slabs) EXPECT_TRUE(slab.branches.empty());
    const Tensor x = random_normal({50, 256}, 1);
    const auto host = make_reference_device();
    const Tensor expected = Ops(*host).linear(x, layer);
    const Tensor got = to_f32(device->download(ops.linear(device->upload(x), there)));
    EXPECT_LT(relative_l2(got, expected), 3 * kNarrowRounding) << branches;
  }
}

TEST_F(CudaMergeTest, ChangesBelowTheLastDigitAreNotLost) {
  const auto device = make_cuda_device();
  const Linear layer = slightly_changed(WeightFormat::bf16), there = placed(*device, layer);
  expect_changed(to_f32(device->download(there.slabs[0].weight.data)), layer.slabs[0]);
}

TEST_F(CudaMergeTest, NorAreTheyInWeightsThatStayPacked) {
  const auto device = make_cuda_device();
  Ops ops(*device);
  const Tensor identity = host_tensor({256, 256}, DType::f32);
  std::ranges::fill(identity.span<float>(), 0.0f);
  for (int64_t i = 0; i < 256; ++i) identity.data<float>()[i * 256 + i] = 1;
  for (const WeightFormat format : {WeightFormat::f8_e4m3, WeightFormat::affine4, WeightFormat::q4_k}) {
    SCOPED_TRACE(layout_of(format).name);
    const Linear layer = slightly_changed(format);
    const Tensor columns = to_f32(device->download(ops.linear(device->upload(identity), placed(*device, layer))));
    const Tensor after = host_tensor({512, 256}, DType::f32);
    for (int64_t o = 0; o < 512; ++o)
      for (int64_t i = 0; i < 256; ++i) after.data<float>()[o * 256 + i] = columns.data<float>()[i * 512 + o];
    expect_changed(after, layer.slabs[0]);
  }
}

/// Of a matrix or of what is added to it, whether weights change when they are bound or in each call.
TEST_F(CudaMergeTest, NanStaysInItsOutput) {
  constexpr int64_t kBroken = 3;
  const auto device = make_cuda_device();
  Ops ops(*device);
  const Tensor x = device->upload(random_normal({5, 256}, 1));
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::f8_e4m3})
    for (const bool in_branch : {false, true}) {
      const Linear layer = slightly_changed(format);
      const Slab& slab = layer.slabs[0];
      const Tensor& broken = in_branch ? slab.branches[0].up.data : slab.weight.data;
      const size_t row_bytes = broken.bytes() / 512;
      std::memset(broken.data<std::byte>() + kBroken * row_bytes, 0xff, row_bytes);  // NaN in each of the formats
      const Tensor y = to_f32(device->download(ops.linear(x, placed(*device, layer))));
      for (int64_t i = 0; i < y.count(); ++i)
        ASSERT_EQ(std::isnan(y.data<float>()[i]), i % 512 == kBroken)
            << layout_of(format).name << ", in the branch: " << in_branch;
    }
}

TEST_F(CudaMergeTest, GivesTheSameWeightsTwice) {
  const auto device = make_cuda_device();
  const Linear layer = changed_layer(WeightFormat::bf16, 2);
  const auto weights = [&] { return values_of(to_f32(device->download(placed(*device, layer).slabs[0].weight.data))); };
  EXPECT_EQ(weights(), weights());
}

TEST_F(CudaMergeTest, ExactArithmeticAndPackedWeightsKeepBranchesBeside) {
  const auto count = [](Device& device, WeightFormat format) {
    return placed(device, changed_layer(format, 2)).slabs[0].branches.size();
  };
  EXPECT_EQ(count(*make_cuda_device({.arithmetic = CudaArithmetic::f32}), WeightFormat::bf16), 2);
  EXPECT_EQ(count(*make_cuda_device(), WeightFormat::affine4), 2);
  EXPECT_EQ(count(*make_cuda_device(), WeightFormat::f32), 2);
}

TEST_F(CudaMergeTest, WidenedWeightsOfAnyFormatTakeThemIn) {
  const Tensor x = random_normal({50, 256}, 1);
  const auto host = make_reference_device();
  for (const CudaArithmetic arithmetic : {CudaArithmetic::bf16, CudaArithmetic::f32})
    for (const WeightFormat format :
         {WeightFormat::f32, WeightFormat::f8_e4m3, WeightFormat::affine4, WeightFormat::affine8, WeightFormat::q4_k}) {
      SCOPED_TRACE(layout_of(format).name);
      const auto device = make_cuda_device({.arithmetic = arithmetic});
      const bool narrow = arithmetic == CudaArithmetic::bf16;
      const Linear layer = changed_layer(format, 2), there = placed(*device, layer, true);
      size_t bytes = 0;
      for (const Slab& slab : there.slabs) {
        EXPECT_TRUE(slab.branches.empty());
        EXPECT_EQ(slab.weight.format, narrow ? WeightFormat::bf16 : WeightFormat::f32);
        bytes += bytes_of(slab.weight);
      }
      EXPECT_EQ(device->widened_bytes(layer), bytes);
      const Tensor got = to_f32(device->download(Ops(*device).linear(device->upload(x), there)));
      EXPECT_LT(relative_l2(got, Ops(*host).linear(x, layer)), narrow ? 3 * kNarrowRounding : 1e-5);
    }
}

TEST_F(CudaMergeTest, ThePlanKnowsWhatIsLeft) {
  const auto device = make_cuda_device();
  const Linear layer = changed_layer(WeightFormat::bf16, 1);
  EXPECT_EQ(device->rounded_bytes(layer), bytes_of(layer.slabs[0].weight) + bytes_of(layer.slabs[1].weight));
  EXPECT_EQ(device->rounded_bytes(tolerant(WeightFormat::bf16, {16}, 16, 1)), std::nullopt);
}

}  // namespace
}  // namespace inkstone
