// Copies between host memory and the cuda device, small ones and those that several threads share.
#include <algorithm>
#include <gtest/gtest.h>

#include "cuda/cuda_device.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

constexpr int64_t kPiece = int64_t{2} << 20;  // bytes that a thread copies at a time
constexpr int64_t kThreads = 16;

std::vector<uint8_t> bytes_of(const Tensor& tensor) {
  const auto bytes = tensor.span<const uint8_t>();
  return {bytes.begin(), bytes.end()};
}

/// Other bytes in every piece, and for every seed.
Tensor numbered_bytes(int64_t count, uint32_t seed) {
  constexpr uint32_t kGoldenRatio = 0x9e3779b9u;  // of 2^32
  constexpr int kHighest = 24;
  const Tensor tensor = host_tensor({count}, DType::u8);
  uint32_t i = seed;
  for (uint8_t& byte : tensor.span<uint8_t>()) byte = static_cast<uint8_t>(i++ * kGoldenRatio >> kHighest);
  return tensor;
}

class CudaCopiesTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
    device_ = make_cuda_device();
  }

  std::unique_ptr<Device> device_;
};

TEST_P(CudaCopiesTest, BytesComeBack) {
  const Tensor host = numbered_bytes(GetParam(), 1);
  EXPECT_EQ(bytes_of(device_->download(device_->upload(host))), bytes_of(host));
}

TEST_P(CudaCopiesTest, HostBytesMayChangeAfterAnUpload) {
  const Tensor host = numbered_bytes(GetParam(), 1);
  std::vector<Tensor> uploaded;
  for (const uint32_t seed : {1u, 2u, 3u}) {
    std::ranges::copy(numbered_bytes(GetParam(), seed).span<const uint8_t>(), host.data<uint8_t>());
    uploaded.push_back(device_->upload(host));
    std::ranges::fill(host.span<uint8_t>(), uint8_t{0});
  }
  for (uint32_t i = 0; i < uploaded.size(); ++i)
    EXPECT_EQ(bytes_of(device_->download(uploaded[i])), bytes_of(numbered_bytes(GetParam(), i + 1))) << i;
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaCopiesTest,
                         ::testing::Values(int64_t{1}, kPiece / 2 - 1, kPiece / 2, kPiece + 3, kThreads* kPiece,
                                           kThreads* kPiece + 1, 3 * kThreads * kPiece - 5),
                         [](const auto& size) { return std::to_string(size.param); });

}  // namespace
}  // namespace inkstone
