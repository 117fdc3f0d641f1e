// Weights that the cuda device copies many at once, and what it makes of them meanwhile.
#include <gmock/gmock.h>

#include "core/error.h"
#include "cuda/cuda_device.h"
#include "ops/linear_parts.h"
#include "ops/ops.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Of which gtest prints the first few where two differ; of strings it would look for the lines that do.
using Bytes = std::vector<uint8_t>;

Bytes contents(const Tensor& host) {
  const auto* first = host.data<const uint8_t>();
  return {first, first + host.bytes()};
}

/// Other bytes for every seed.
Tensor some_bytes(int64_t count, uint32_t seed) {
  constexpr uint32_t kGoldenRatio = 0x9e3779b9u;  // of 2^32
  constexpr int kHighest = 24;
  const Tensor tensor = host_tensor({count}, DType::u8);
  uint32_t i = seed << kHighest;
  for (uint8_t& byte : tensor.span<uint8_t>()) byte = static_cast<uint8_t>(i++ * kGoldenRatio >> kHighest);
  return tensor;
}

/// Every tensor of a layer, off the device.
std::vector<Bytes> contents(Device& device, Linear layer) {
  std::vector<Bytes> all;
  for_each_tensor(layer, [&](const Tensor& tensor) { all.push_back(contents(device.download(tensor))); });
  return all;
}

class CudaUploadsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// Tensors one after the other, nothing else being copied.
  static Linear placed_alone(Device& device, const Linear& host) {
    Linear layer = host;
    for_each_tensor(layer, [&](Tensor& tensor) { tensor = device.upload(tensor); });
    layer.tolerance = std::make_shared<Tolerance>();
    device.round_weights(layer);
    return layer;
  }

  static Linear placed(Device& device, const Linear& host) {
    Linear layer = host;
    device.upload_weights(layer);
    layer.tolerance = std::make_shared<Tolerance>();
    device.round_weights(layer);
    return layer;
  }

  /// Many layers in a row become what each becomes alone. Those of a part of the seeds are let go at once, so that
  /// others get their memory while they are under way.
  static void expect_like_alone(CudaArithmetic arithmetic, WeightFormat format) {
    constexpr uint64_t kLayers = 24, kForgotten = 3;
    const auto device = make_cuda_device({.arithmetic = arithmetic}),
               other = make_cuda_device({.arithmetic = arithmetic});
    const auto layer_with = [&](uint64_t seed) {
      return layer_of(format, seed % 2 == 0 ? std::vector<int64_t>{768, 512, 768} : std::vector<int64_t>{2560}, 1024,
                      seed);
    };
    std::vector<Linear> hosts, layers;
    for (uint64_t seed = 1; seed <= kLayers; ++seed) hosts.push_back(layer_with(100 * seed + seed % 2));
    for (uint64_t i = 0; i < kLayers; ++i) {
      Linear layer = placed(*device, hosts[i]);
      layers.push_back(i % kForgotten == 0 ? Linear{} : std::move(layer));
    }
    device->finish_uploads();
    for (uint64_t i = 0; i < kLayers; ++i) {
      if (i % kForgotten == 0) continue;
      EXPECT_EQ(contents(*device, layers[i]), contents(*other, placed_alone(*other, hosts[i])))
          << layout_of(format).name << ", layer " << i;
    }
  }
};

TEST_F(CudaUploadsTest, TensorsOfAllSizesComeAsTheyAre) {
  const auto device = make_cuda_device();
  std::vector<Tensor> hosts, copies;
  uint32_t seed = 0;
  for (const int64_t bytes :
       {1, 255, 256, 12'288, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 3, 70'000'001, 5'000'000, 0, 7})
    hosts.push_back(some_bytes(bytes, ++seed));
  for (const Tensor& host : hosts) copies.push_back(device->upload_weight(host));
  device->finish_uploads();
  for (size_t i = 0; i < hosts.size(); ++i)
    EXPECT_EQ(contents(device->download(copies[i])), contents(hosts[i])) << hosts[i].bytes();
}

TEST_F(CudaUploadsTest, WhatIsComputedFindsThemThere) {
  const auto device = make_cuda_device({.arithmetic = CudaArithmetic::f32});
  Ops ops(*device);
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Tensor host = random_normal({3000, 1000}, seed);
    const Tensor copy = ops.concat_rows({device->upload_weight(host)});
    EXPECT_EQ(contents(device->download(copy)), contents(host)) << seed;
  }
}

TEST_F(CudaUploadsTest, MemoryThatWorkStillReadsIsNotWritten) {
  const auto device = make_cuda_device({.arithmetic = CudaArithmetic::f32});
  Ops ops(*device);
  const Shape shape = {4000, 1000};
  const Tensor first = random_normal(shape, 1), second = random_normal(shape, 2);
  std::vector<Tensor> results;
  for (int i = 0; i < 20; ++i) {
    results.push_back(ops.concat_rows({device->upload_weight(first)}));  // whose memory is free from here on
    results.push_back(ops.concat_rows({device->upload_weight(second)}));
  }
  for (size_t i = 0; i < results.size(); ++i)
    EXPECT_EQ(contents(device->download(results[i])), contents(i % 2 == 0 ? first : second)) << i;
}

TEST_F(CudaUploadsTest, MatricesAndBiasesOfALayerLieOneBelowTheOther) {
  const auto device = make_cuda_device();
  for (const DType type : {DType::bf16, DType::f8_e4m3}) {
    Linear layer;
    for (const uint32_t rows : {501u, 502u, 503u}) {
      const Tensor bytes = some_bytes(rows * 640 * static_cast<int64_t>(size_of(type)), rows);
      layer.slabs.push_back({dense_weight(Tensor(bytes.buffer(), 0, {rows, 640}, type)), random_normal({rows}, rows)});
    }
    const Linear host = layer;
    device->upload_weights(layer);
    for (size_t i = 1; i < layer.slabs.size(); ++i) {
      const Slab &above = layer.slabs[i - 1], &below = layer.slabs[i];
      EXPECT_EQ(below.weight.data.buffer(), above.weight.data.buffer());
      EXPECT_EQ(below.weight.data.offset(), above.weight.data.offset() + above.weight.data.bytes());
      EXPECT_EQ(below.bias.offset(), above.bias.offset() + above.bias.bytes());
    }
    Linear there = host;
    std::vector<Bytes> expected;
    for_each_tensor(there, [&](const Tensor& tensor) { expected.push_back(contents(tensor)); });
    EXPECT_EQ(contents(*device, layer), expected);
  }
}

/// Matrices of few bits whose tensors are all a little larger than the pool's blocks.
TEST_F(CudaUploadsTest, PackedLayersThatStayTakeHardlyMoreThanTheirBytes) {
  constexpr size_t kSlab = size_t{64} << 20, kUnits = 50;  // one slab begun, and a fiftieth for ends and units
  const auto device = make_cuda_device();
  const Linear host = layer_of(WeightFormat::affine4, {3072, 3072, 3072}, 3072, 1);
  std::vector<Linear> layers(24, host);
  const size_t before = device->memory().current;
  for (Linear& layer : layers) device->upload_weights(layer);
  device->finish_uploads();
  size_t bytes = 0;
  for (Linear layer : layers) for_each_tensor(layer, [&](const Tensor& tensor) { bytes += tensor.bytes(); });
  EXPECT_LE(device->memory().current - before, bytes + bytes / kUnits + kSlab);
  for (const Linear& layer : layers) EXPECT_EQ(contents(*device, layer), contents(*device, layers.front()));
  layers.clear();
  EXPECT_EQ(device->memory().current, before);
}

TEST_F(CudaUploadsTest, RoundedBesideOtherCopiesTheyBecomeWhatTheyBecomeAlone) {
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::affine4})
    expect_like_alone(CudaArithmetic::int8, format);
  if (why_no_fp8().empty())
    for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::f8_e4m3, WeightFormat::affine4})
      expect_like_alone(CudaArithmetic::fp8, format);
}

TEST_F(CudaUploadsTest, WithoutRoomForTheNextTheOthersComeAndTheDeviceWorksOn) {
  const auto device = make_cuda_device({.memory_limit = kCudaOwnBytes + (size_t{256} << 20)});
  const Tensor host = some_bytes(int64_t{20} << 20, 1);
  std::vector<Tensor> copies;
  const auto fill = [&] {
    while (true) copies.push_back(device->upload_weight(host));
  };
  EXPECT_THAT(fill, ThrowsMessage<Error>(HasSubstr("out of memory on cuda:0")));
  ASSERT_GT(copies.size(), 2u);
  copies.erase(copies.begin());
  copies.push_back(device->upload_weight(some_bytes(int64_t{20} << 20, 2)));
  device->finish_uploads();
  for (size_t i = 0; i + 1 < copies.size(); ++i) EXPECT_EQ(contents(device->download(copies[i])), contents(host)) << i;
  EXPECT_EQ(contents(device->download(copies.back())), contents(some_bytes(int64_t{20} << 20, 2)));
}

TEST_F(CudaUploadsTest, WhatIsGivenUpHalfwayDisturbsNobody) {
  const Tensor host = some_bytes(int64_t{50} << 20, 1);
  for (int i = 0; i < 5; ++i) {
    const auto device = make_cuda_device();
    device->upload_weight(host);
  }
  const auto device = make_cuda_device();
  for (int i = 0; i < 5; ++i) device->upload_weight(host);
  EXPECT_EQ(contents(device->download(device->upload(host))), contents(host));
}

}  // namespace
}  // namespace inkstone
