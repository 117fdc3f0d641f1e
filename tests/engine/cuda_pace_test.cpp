// How far the host may be ahead of a GPU.
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>

#include "cuda/cuda_device.h"
#include "ops/ops.h"

namespace inkstone {
namespace {

double seconds(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(CudaPaceTest, AtTheEndOfAStepTheOneBeforeIsDoneAndThisOneIsNotWaitedFor) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr int64_t kRows = 4096, kWidth = 8192;
  constexpr int kProducts = 100;  // of 0.5 TFLOP: a launch takes the host a hundredth of the time
  const auto device = make_cuda_device();
  Ops ops(*device);
  const auto zeros = [&](const Shape& shape) {
    const Tensor host = host_tensor(shape, DType::bf16);
    std::memset(host.data<void>(), 0, host.bytes());
    return device->upload(host);
  };
  const Linear layer = {.slabs = {{dense_weight(zeros({kWidth, kWidth})), {}}}};
  const Tensor x = zeros({kRows, kWidth});
  const auto step = [&] {
    for (int i = 0; i < kProducts; ++i) ops.linear(x, layer);
  };
  const auto wait = [&] { device->wait(); };
  step();
  wait();
  const double alone = seconds([&] { step(), wait(); });
  for (int i = 0; i < 3; ++i) {
    step();
    device->end_step();
  }
  const double left = seconds(wait);
  EXPECT_LT(left, 1.5 * alone) << "more than one step was still to be done";
  EXPECT_GT(left, 0.5 * alone) << "nothing was queued ahead";
}

}  // namespace
}  // namespace inkstone
