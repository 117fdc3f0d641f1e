// Work that the cuda device does again as one launch.
#include <future>
#include <gtest/gtest.h>
#include <optional>

#include "cuda/cuda_device.h"
#include "ops/ops.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

constexpr int64_t kWidth = 64;

class CudaRecordingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
    open(0);
  }

  void open(int index) {
    layers_.clear();
    device_ = make_cuda_device({.index = index});
    ops_.emplace(*device_);
    for (const uint64_t seed : {1u, 2u}) {
      layers_.push_back(random_layer(WeightFormat::bf16, 3 * kWidth, kWidth, seed));
      Slab& slab = layers_.back().slabs.front();
      slab.weight.data = device_->upload(slab.weight.data);
      slab.bias = device_->upload(slab.bias);
    }
  }

  /// Two streams through linear layers beside each other and joint attention, added up.
  Tensor attended(std::span<const Tensor> in) {
    const std::vector<Sequences> streams = {Sequences::equal(1, in[0].dim(0)), Sequences::equal(1, in[1].dim(0))};
    const auto qkv = ops_->linear({{in[0], &layers_[0]}, {in[1], &layers_[1]}});
    const auto out = ops_->attention(
        ops_->join_qkv({{qkv[0], &streams[0]}, {qkv[1], &streams[1]}}, {.heads = 1, .kv_heads = 1, .width = kWidth}));
    return ops_->concat_rows(out);
  }
  RecordedWork work() {
    return [this](std::span<const Tensor> in) { return attended(in); };
  }

  std::vector<Tensor> inputs(uint64_t seed, int64_t rows = 200) {
    return {device_->upload(random_normal({7, kWidth}, seed)),
            device_->upload(random_normal({rows, kWidth}, seed + 1))};
  }

  std::vector<float> numbers(const Tensor& t) { return values_of(to_f32(device_->download(t))); }

  std::unique_ptr<Device> device_;
  std::optional<Ops> ops_;
  std::vector<Linear> layers_;
};

TEST_F(CudaRecordingTest, ReplaysGiveWhatTheOpsGive) {
  const std::vector<float> first = numbers(attended(inputs(1)));
  const auto recording = ops_->record(inputs(1), work());
  ASSERT_NE(recording, nullptr);
  for (const uint64_t seed : {1u, 3u, 5u, 7u}) {
    const std::vector<Tensor> in = inputs(seed);
    const std::vector<float> replayed = numbers(recording->replay(in));
    EXPECT_EQ(replayed, numbers(attended(in))) << seed;
    if (seed == 1) {
      EXPECT_EQ(replayed, first);
    }
  }
}

TEST_F(CudaRecordingTest, NobodyElseGetsItsMemory) {
  const std::vector<Tensor> in = inputs(1);
  const std::vector<float> expected = numbers(attended(in));
  const auto recording = ops_->record(in, work());
  ASSERT_NE(recording, nullptr);
  std::vector<std::pair<Tensor, std::vector<float>>> others;
  for (uint64_t seed = 10; seed < 30; ++seed) {
    const Tensor other = attended(inputs(seed));
    others.emplace_back(other, numbers(other));
  }
  EXPECT_EQ(numbers(recording->replay(in)), expected);
  for (const auto& [tensor, before] : others) EXPECT_EQ(numbers(tensor), before);
}

TEST_F(CudaRecordingTest, ItsResultMayOutliveIt) {
  const std::vector<Tensor> in = inputs(1);
  const std::vector<float> expected = numbers(attended(in));
  Tensor result;
  {
    const auto recording = ops_->record(in, work());
    ASSERT_NE(recording, nullptr);
    result = recording->replay(in);
  }
  for (uint64_t seed = 10; seed < 14; ++seed) attended(inputs(seed));
  EXPECT_EQ(numbers(result), expected);
}

TEST_F(CudaRecordingTest, AThreadThatUsedAnotherGpuMayRecord) {
  if (const std::string reason = why_no_cuda(1); !reason.empty()) GTEST_SKIP() << reason;
  open(1);
  const std::vector<Tensor> in = inputs(1);
  const std::vector<float> expected = numbers(attended(in));
  auto replayed = std::async(std::launch::async, [&] {  // whose device is the first one to begin with
    const auto recording = ops_->record(in, work());
    return recording ? numbers(recording->replay(in)) : std::vector<float>();
  });
  EXPECT_EQ(replayed.get(), expected);
}

TEST_F(CudaRecordingTest, AFaultInTheWorkEndsTheRecord) {
  attended(inputs(1));
  EXPECT_EQ(ops_->record(inputs(1), [](std::span<const Tensor>) -> Tensor { fail("a fault"); }), nullptr);
  EXPECT_THROW(ops_->record(inputs(1), [](std::span<const Tensor>) -> Tensor { throw Cancelled(); }), Cancelled);
  EXPECT_EQ(ops_->record(inputs(1, 90), work()), nullptr) << "tables of other sequences are not there yet";
  const std::vector<float> expected = numbers(attended(inputs(1)));
  const auto recording = ops_->record(inputs(1), work());
  ASSERT_NE(recording, nullptr) << "the device works on";
  EXPECT_EQ(numbers(recording->replay(inputs(1))), expected);
}

TEST_F(CudaRecordingTest, WithoutMemoryThereIsNone) {
  const std::vector<Tensor> in = inputs(1);
  const std::vector<float> expected = numbers(attended(in));
  const RecordedWork large = [&](std::span<const Tensor> x) {
    const auto more = device_->allocate(size_t{1} << 40);
    return attended(x);
  };
  EXPECT_EQ(ops_->record(in, large), nullptr);
  const std::vector<std::string> notes = device_->take_notes();
  ASSERT_EQ(notes.size(), 1);
  EXPECT_EQ(notes.front().find("steps are queued op by op, which may take longer: out of memory on cuda:0: "), 0)
      << notes.front();
  EXPECT_EQ(numbers(attended(in)), expected);
}

}  // namespace
}  // namespace inkstone
