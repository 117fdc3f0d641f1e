// Two blocks of the transformer and the VAE's decoder on a GPU, at their published widths and with random weights: the
// models of tests/data are too narrow for the kernels that a picture of full size takes on Hopper.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <optional>

#include "model/block_source.h"
#include "model/parity.h"
#include "model/rope.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/beside_ampere.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

bool has_hopper() { return find_cuda().major == 9; }

constexpr int64_t kBlocks = 2;
constexpr int64_t kVectors = 6;                      // of modulation
constexpr Grid kGrid = {.height = 16, .width = 16};  // of each picture: 512 rows of both
/// Of one picture, with whose prompt attention has 3641 rows: fp8_all rounds it from 3584 on.
constexpr Grid kLongGrid = {.height = 60, .width = 60};

/// What two blocks read, the second of which is the last.
struct TwoBlocks {
  TransformerConfig config = {.layers = kBlocks};
  TransformerWeights weights;
  Conditioning condition;
  ModulationTables tables;
  StepRows rows;
  Tensor img;
};

StreamWeights random_stream(const TransformerConfig& config, uint64_t seed) {
  const int64_t d = config.width(), mlp = 4 * d;
  const auto layer = [&](const std::vector<int64_t>& outs, int64_t in) {
    Linear of;
    for (const int64_t out : outs) {
      const Tensor numbers = repeated_normal({out, in}, ++seed, 1 / std::sqrt(static_cast<float>(in)));
      of.slabs.push_back({dense_weight(as_bf16(numbers)), random_normal({out}, ++seed, 0.1f)});
    }
    return of;
  };
  StreamWeights w = {.qkv = layer({d, d, d}, d), .out = layer({d}, d), .up = layer({mlp}, d), .down = layer({d}, mlp)};
  for (Tensor* norm : {&w.q_norm, &w.k_norm}) *norm = random_normal({config.head_width}, ++seed);
  return w;
}

/// With a picture for each prompt of so many tokens.
TwoBlocks on_pictures(TwoBlocks b, const Grid& grid, const std::vector<int64_t>& prompts) {
  const auto pictures = static_cast<int64_t>(prompts.size());
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < pictures; ++i) rows.push_back(static_cast<int32_t>(i * kVectors));
  b.rows.block = host_tensor(rows);
  b.condition.txt_rows = Sequences(prompts);
  b.condition.img_rows = Sequences::equal(pictures, grid.tokens());
  b.condition.txt = random_normal({b.condition.txt_rows.rows(), b.config.width()}, 5);
  b.condition.txt_rope = {text_rope(b.condition.txt_rows, grid, b.config.rope_axes)};
  b.condition.img_rope = {image_rope(grid, pictures, b.config.rope_axes)};
  b.img = random_normal({b.condition.img_rows.rows(), b.config.width()}, 6);
  return b;
}

/// Of two pictures, whose prompts have 64 tokens in all.
TwoBlocks two_blocks() {
  constexpr uint64_t kStream = 100;  // seeds
  TwoBlocks b;
  const int64_t d = b.config.width();
  for (uint64_t i = 0; i < kBlocks; ++i) {
    b.weights.blocks.push_back(
        {random_stream(b.config, 2 * i * kStream), random_stream(b.config, (2 * i + 1) * kStream)});
    b.tables.blocks.push_back(
        {random_normal({2 * kVectors, d}, i + 1, 0.5f), random_normal({2 * kVectors, d}, i + 9, 0.5f)});
  }
  return on_pictures(std::move(b), kGrid, {41, 23});
}

/// The same in a device's memory, layers bound as those of a model are.
TwoBlocks placed(const TwoBlocks& host, Device& device) {
  TwoBlocks b = host;
  const auto place = [&](Tensor& tensor) {
    if (tensor) tensor = device.upload(tensor);
  };
  for (BlockWeights& block : b.weights.blocks)
    for_each_block_layer(block, [&](Linear& layer) {
      layer.tolerance = std::make_shared<Tolerance>();
      device.upload_weights(layer);
      device.round_weights(layer);
    });
  device.finish_uploads();
  for_each_other_tensor(b.weights, place);
  for (ModulationTables::Block& block : b.tables.blocks)
    for (Tensor* table : {&block.txt, &block.img}) place(*table);
  for (Tensor* tensor :
       {&b.rows.block, &b.condition.txt, &b.condition.txt_rope.cos_sin, &b.condition.img_rope.cos_sin, &b.img})
    place(*tensor);
  return b;
}

/// The text after the first block, which nothing reads after the second, and the picture after both.
Transformer::Streams run(Ops& ops, const TwoBlocks& b, const Tensor& img) {
  const Transformer transformer(b.config, b.weights);
  Transformer::Streams x = {.txt = b.condition.txt, .img = img};
  x = transformer.block(ops, 0, x, b.condition, b.tables, b.rows);
  return {.txt = x.txt, .img = transformer.block(ops, 1, x, b.condition, b.tables, b.rows).img};
}

/// The same on the host, of two pictures or a long one, and what the CPU makes of them in f32. What no test asks for is
/// not made.
class HostBlocks {
 public:
  const TwoBlocks& of(bool long_one) {
    if (!two_pictures_) two_pictures_ = two_blocks();
    if (!long_one) return *two_pictures_;
    if (!one_long_) one_long_ = on_pictures(*two_pictures_, kLongGrid, {41});
    return *one_long_;
  }
  const Transformer::Streams& expected(bool long_one) {
    std::optional<Transformer::Streams>& found = expected_.at(long_one ? 1 : 0);
    if (found) return *found;
    const auto cpu = make_cpu_device();
    Ops ops(*cpu);
    return found.emplace(run(ops, placed(of(long_one), *cpu), of(long_one).img));
  }

 private:
  std::optional<TwoBlocks> two_pictures_, one_long_;
  std::array<std::optional<Transformer::Streams>, 2> expected_;
};

class CudaBlocksTest : public ::testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { host_blocks_ = {}; }

  void SetUp() override {
    const std::string device = GetParam();
    if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
    if (device.starts_with("cuda_fp8") && !why_no_fp8().empty()) GTEST_SKIP() << why_no_fp8();
    device_ = make_device(device);
    there_ = placed(host(is_long()), *device_);
  }

  static bool is_long() { return std::string_view(GetParam()) == "cuda_fp8_all"; }
  static const TwoBlocks& host(bool long_one) { return host_blocks_.of(long_one); }

  Device& device() { return *device_; }
  const TwoBlocks& blocks() const { return there_; }
  Tensor numbers(const Tensor& t) { return to_f32(device_->download(t)); }

  /// What the blocks add to their streams.
  void expect_near_f32(const Transformer::Streams& got) {
    const auto added = [](const Tensor& after, const Tensor& before) {
      std::vector<float> change = values_of(after);
      std::ranges::transform(change, before.span<const float>(), change.begin(), std::minus<>());
      return change;
    };
    const auto expect = [&](const Tensor& y, const Tensor& expected, const Tensor& x) {
      errors_.expect_within(relative_error(added(numbers(y), x), added(expected, x)),
                            tolerance_of(GetParam(), kStageTolerance));
    };
    const TwoBlocks& before = host(is_long());
    const Transformer::Streams& expected = host_blocks_.expected(is_long());
    expect(got.txt, expected.txt, before.condition.txt);
    expect(got.img, expected.img, before.img);
  }

 private:
  static inline HostBlocks host_blocks_;

  std::unique_ptr<Device> device_;
  TwoBlocks there_;
  ErrorLog errors_;
};

TEST_P(CudaBlocksTest, AreNearThoseOfTheCpuInF32) {
  Ops ops(device());
  expect_near_f32(run(ops, blocks(), blocks().img));
}

TEST_P(CudaBlocksTest, ReplayedTheyGiveWhatTheOpsGive) {
  Ops ops(device());
  const auto on_picture = [&](std::span<const Tensor> in) {
    const Transformer::Streams y = run(ops, blocks(), in[0]);
    return ops.concat_rows({y.txt, y.img});
  };
  const auto told = [&](const Tensor& img) { return values_of(numbers(on_picture(std::array{img}))); };
  const std::vector<float> expected = told(blocks().img);
  const auto recording = ops.record(std::array{blocks().img}, on_picture);
  ASSERT_NE(recording, nullptr);
  const Tensor other = device().upload(random_normal(blocks().img.shape(), 7));
  EXPECT_EQ(values_of(numbers(recording->replay(std::array{other}))), told(other));
  EXPECT_EQ(values_of(numbers(recording->replay(std::array{blocks().img}))), expected);
}

/// Products with what follows them inside, the join inside a product, and attention. Int8's products are everywhere the
/// same.
TEST_P(CudaBlocksTest, TakeTheKernelsOfHopper) {
  if (!has_hopper()) GTEST_SKIP() << "this GPU is not of Hopper";
  const std::string name = GetParam();
  BesideAmpere beside(device(), arithmetic_of(name));
  Ops ops(device(), beside);
  expect_near_f32(run(ops, blocks(), blocks().img));
  for (const auto& [op, calls] : {std::pair{"linear", 3 * kBlocks}, {"join_qkv", kBlocks}, {"attention", kBlocks}}) {
    const bool has_own = name != "cuda_int8" || std::string_view(op) == "attention";
    const BesideAmpere::Count& count = beside.counts().at(op);
    EXPECT_EQ(count.calls, calls) << op;
    EXPECT_EQ(count.unlike, has_own ? calls : 0) << op;
  }
}

INSTANTIATE_TEST_SUITE_P(On, CudaBlocksTest, ::testing::Values("cuda_bf16", "cuda_fp8", "cuda_fp8_all", "cuda_int8"),
                         [](const auto& test) { return std::string(test.param); });

class CudaRoundedAttentionTest : public CudaBlocksTest {};

TEST_P(CudaRoundedAttentionTest, IsThatOfLongRowsAlone) {
  const auto of = [](Device& on, bool long_one) {
    Ops ops(on);
    const TwoBlocks there = placed(host(long_one), on);
    const Transformer::Streams y = run(ops, there, there.img);
    return values_of(to_f32(on.download(ops.concat_rows({y.txt, y.img}))));
  };
  const auto fp8 = make_device("cuda_fp8");
  for (const bool long_one : {false, true})
    EXPECT_EQ(of(device(), long_one) == of(*fp8, long_one), !long_one) << long_one;
}

INSTANTIATE_TEST_SUITE_P(On, CudaRoundedAttentionTest, ::testing::Values("cuda_fp8_all"),
                         [](const auto& test) { return std::string(test.param); });

/// The VAE's weights at any width.
class RandomVae final : public WeightLoader {
 public:
  explicit RandomVae(Device& device) : WeightLoader(no_files_, device), device_(device) {}

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias) override {
    Linear layer;
    for (const SlabName& slab : slabs)
      layer.slabs.push_back({dense_weight(numbers({slab.out, in}, in)), small_numbers(slab.out)});
    return layer;
  }
  Tensor vector(const std::string&, int64_t n) override {
    const Tensor host = random_normal({n}, ++seed_, kSmall);
    for (float& x : host.span<float>()) x += 1;
    return device_.upload(host);
  }
  Conv2d conv2d(const std::string&, int64_t out, int64_t in) override {
    constexpr int64_t kTaps = 9;
    return {.weight = numbers({out, 3, 3, in}, kTaps * in), .bias = small_numbers(out)};
  }

 private:
  static constexpr float kSmall = 0.1f;

  Tensor numbers(const Shape& shape, int64_t inputs) {
    return device_.upload(random_normal(shape, ++seed_, 1 / std::sqrt(static_cast<float>(inputs))));
  }
  Tensor small_numbers(int64_t n) { return device_.upload(random_normal({n}, ++seed_, kSmall)); }

  Checkpoint no_files_;
  Device& device_;
  uint64_t seed_ = 0;
};

class CudaDecoderTest : public ::testing::TestWithParam<const char*>, protected OnDevice {
 protected:
  CudaDecoderTest() : OnDevice(GetParam()) {}
  void SetUp() override {
    skip_without(GetParam());
    if (IsSkipped()) return;
    config_.latents_mean.assign(static_cast<size_t>(config_.latent_channels), 0.0);
    config_.latents_std.assign(static_cast<size_t>(config_.latent_channels), 1.0);
    weights_ = on(*device_);
  }

  VaeWeights on(Device& device) const {
    RandomVae loader(device);
    return load_vae(config_, loader);
  }
  /// A picture of so many latents.
  Tensor decoded(Ops& ops, const VaeWeights& weights, int64_t height, int64_t width, int64_t band_rows = 0) const {
    const Tensor latents = random_normal({1, height, width, config_.latent_channels}, 1);
    return ops.download(decode(ops, config_, weights, ops.upload(latents), band_rows));
  }
  Tensor decoded_small(Ops& ops, const VaeWeights& weights) const { return decoded(ops, weights, 8, 6); }

  /// In bf16 number by number: our convolutions add up a pixel in one order, wherever its band begins, and cuBLASLt's
  /// products of bands did so too (H200, CUDA 13.0). In f32 cuBLASLt multiplies for convolutions as well, and chooses
  /// the order by the number of rows: 1.2e-6 there.
  void expect_bands_give_the_whole(int64_t height, int64_t width, std::initializer_list<int64_t> bands) {
    constexpr double kOfOtherOrders = 1e-5;
    const Tensor whole = decoded(ops_, weights_, height, width);
    for (const int64_t rows : bands) {
      SCOPED_TRACE(fmt::format("{}x{} latents in bands of {} rows", height, width, rows));
      errors_.expect_within(greatest_error(decoded(ops_, weights_, height, width, rows), whole),
                            is_narrow(GetParam()) ? 0 : kOfOtherOrders);
    }
  }

  VaeConfig config_;
  VaeWeights weights_;
  ErrorLog errors_;
};

TEST_P(CudaDecoderTest, IsNearThatOfTheCpuInF32) {
  const auto cpu = make_cpu_device();
  Ops cpu_ops(*cpu);
  errors_.expect_within(relative_error(decoded_small(ops_, weights_), decoded_small(cpu_ops, on(*cpu))),
                        tolerance_of(GetParam(), kStageTolerance));
}

TEST_P(CudaDecoderTest, InBandsGivesTheWhole) { expect_bands_give_the_whole(8, 6, {1, 2, 3, 5}); }

TEST_P(CudaDecoderTest, InBandsGivesTheWholeOfLargePictures) {
  expect_bands_give_the_whole(72, 40, {1, 4, 8, 16, 32});
  expect_bands_give_the_whole(33, 166, {1, 4, 8, 16, 32});
}

TEST_P(CudaDecoderTest, TakesTheKernelsOfHopper) {
  if (!has_hopper()) GTEST_SKIP() << "this GPU is not of Hopper";
  if (!is_narrow(GetParam())) GTEST_SKIP() << "it multiplies f32 by cuBLAS";
  BesideAmpere beside(*device_, arithmetic_of(GetParam()));
  Ops ops(*device_, beside);
  decoded_small(ops, weights_);
  constexpr std::string_view kFirst = "conv2d 16 -> 384";  // its kernel may add in the order of Ampere's
  int convolutions = 0;
  for (const auto& [op, count] : beside.counts()) {
    const bool is_conv = op.starts_with("conv2d ");
    if (!is_conv && op != "attention") continue;
    convolutions += is_conv ? count.calls : 0;
    if (op != kFirst) {
      EXPECT_EQ(count.unlike, count.calls) << op;
    }
  }
  constexpr int kConvolutions = 2 + 2 * (2 + 4 * 3) + 3;  // first and last, of residual blocks, between stages
  EXPECT_EQ(convolutions, kConvolutions);
  EXPECT_EQ(beside.counts().at("attention").calls, 1);
}

INSTANTIATE_TEST_SUITE_P(On, CudaDecoderTest, ::testing::Values("cuda", "cuda_bf16"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace inkstone
