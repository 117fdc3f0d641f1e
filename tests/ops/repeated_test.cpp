// When repeated work is recorded, and that it is done as often either way.
#include "ops/repeated.h"

#include <gtest/gtest.h>

#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

/// Does recorded work again as it was told of.
class RecordingDevice final : public Device {
 public:
  std::string name() const override { return "recording"; }
  std::string describe() const override { return "records"; }
  DType activation_type() const override { return device_->activation_type(); }
  Kernels& kernels() override { return device_->kernels(); }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return device_->allocate(bytes); }
  MemoryUse memory() const override { return device_->memory(); }
  void reset_peak() override { device_->reset_peak(); }
  Tensor upload(const Tensor& host) override { return host; }
  Tensor download(const Tensor& tensor) override { return tensor; }
  std::unique_ptr<Recording> record(std::span<const Tensor>, const RecordedWork& work) override {
    ++asked;
    if (!records) return nullptr;
    return std::make_unique<Again>(work, replays);
  }

  bool records = true;
  int asked = 0, replays = 0;

 private:
  struct Again final : Recording {
    Again(RecordedWork what, int& count) : work(std::move(what)), replays(count) {}
    Tensor replay(std::span<const Tensor> inputs) override {
      ++replays;
      return work(inputs);
    }
    RecordedWork work;
    int& replays;
  };

  std::unique_ptr<Device> device_ = make_reference_device();
};

class RepeatedTest : public ::testing::Test {
 protected:
  /// Doubles five inputs.
  void expect_right(Ops& ops, int64_t times) {
    Repeated twice(
        ops, [&](std::span<const Tensor> in) { return ops.add_scaled(in[0], in[0], one_); }, times);
    for (int64_t i = 0; i < times; ++i) {
      const Tensor x = random_normal({3, 2}, static_cast<uint64_t>(i));
      const Tensor got = twice({x});
      for (int64_t j = 0; j < x.count(); ++j) EXPECT_EQ(got.data<float>()[j], 2 * x.data<float>()[j]);
    }
  }

  RecordingDevice device_;

 private:
  const std::vector<float> ones_ = {1};
  const Tensor one_ = host_tensor(ones_);
};

TEST_F(RepeatedTest, IsRecordedOnceAfterTheFirstTime) {
  Ops ops(device_);
  expect_right(ops, 5);
  EXPECT_EQ(device_.asked, 1);
  EXPECT_EQ(device_.replays, 4);
}

TEST_F(RepeatedTest, GoesOnWhereTheDeviceCannotRecordIt) {
  device_.records = false;
  Ops ops(device_);
  expect_right(ops, 5);
  EXPECT_EQ(device_.asked, 1) << "asking again would cost as much again";
}

TEST_F(RepeatedTest, IsNotRecordedForFewTimes) {
  Ops ops(device_);
  expect_right(ops, 3);
  EXPECT_EQ(device_.asked, 0);
}

TEST_F(RepeatedTest, IsNotRecordedWhereKernelsMustSeeIt) {
  Ops ops(device_, device_.kernels());
  expect_right(ops, 5);
  EXPECT_EQ(device_.asked, 0);
}

}  // namespace
}  // namespace inkstone
