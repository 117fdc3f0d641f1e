// What the cuda device says of memory that it does not get, and when the device itself works no more.
#include <cstdlib>
#include <gmock/gmock.h>

#include "core/error.h"
#include "core/host_memory.h"
#include "cuda/cuda_device.h"
#include "ops/lost_device.h"
#include "ops/ops.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

class CudaFaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(CudaFaultsTest, MemoryBeyondTheLimitIsAnErrorThatNamesTheDevice) {
  const auto device = make_cuda_device({.memory_limit = kCudaOwnBytes + (size_t{1} << 30)});
  EXPECT_THAT([&] { device->allocate(size_t{2} << 30); },
              ThrowsMessage<Error>(AllOf(StartsWith("out of memory on cuda:0: 2.15 GB are wanted, "),
                                         HasSubstr(" of 1.07 GB are in use; --memory"))));
}

TEST_F(CudaFaultsTest, MemoryThatTheGpuLacksIsAnErrorThatNamesTheDevice) {
  const auto device = make_cuda_device({.memory_limit = size_t{1} << 50});
  EXPECT_THAT([&] { device->allocate(size_t{1} << 43); },
              ThrowsMessage<Error>(AllOf(StartsWith("out of memory on cuda:0: 8.80 TB are wanted, "),
                                         HasSubstr("the system refuses more; with a smaller --memory"))));
  EXPECT_NE(device->allocate(size_t{1} << 20), nullptr) << "the device works on";
}

TEST_F(CudaFaultsTest, HostMemoryThatCannotBeLockedIsTakenAsItIs) {
  const auto device = make_cuda_device();
  const std::shared_ptr<Buffer> host = HostMemory().allocate(size_t{4} << 20);
  const std::shared_ptr<Buffer> locked = device->pinned(host);
  EXPECT_THAT(device->take_notes(), IsEmpty());
  const std::shared_ptr<Buffer> again = device->pinned(host);  // CUDA locks nothing twice
  EXPECT_EQ(again, host);
  EXPECT_THAT(device->take_notes(), ElementsAre(StartsWith("host memory is not locked (")));
  EXPECT_THAT(device->take_notes(), IsEmpty());
}

/// Ends the process, for which the device is lost, and tells the errors of what comes after.
[[noreturn]] void lose_the_device() {
  {
    const auto device = make_cuda_device();
    Ops ops(*device);
    const Tensor weight = host_tensor({64, 1 << 20}, DType::u8);
    device->upload(weight);  // so that there is memory for it later
    const Tensor kept = ops.concat_rows({device->upload(random_normal({3, 4}, 1))});
    tell_error_of("work", [&] {
      lose(*device);
      device->wait();
    });
    tell_error_of("memory", [&] { device->allocate(size_t{256} << 20); });
    tell_error_of("a result", [&] { device->download(kept); });
    tell_error_of("weights", [&] {
      device->upload_weight(weight);
      device->finish_uploads();
    });
    tell_error_of("an argument", [&] { device->upload(weight); });
  }
  std::exit(EXIT_SUCCESS);
}

TEST_F(CudaFaultsTest, ADeviceThatIsLostIsNotOutOfMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own, as CUDA survives no fork
  EXPECT_EXIT(
      lose_the_device(), ExitedWithCode(EXIT_SUCCESS),
      AllOf(HasSubstr("work: device cuda"),
            HasSubstr(": computing: an illegal memory access was encountered; the device is lost to this process, "),
            HasSubstr("memory: device cuda"), HasSubstr("a result: device cuda"), HasSubstr("weights: device cuda"),
            HasSubstr("an argument: device cuda"), Not(HasSubstr("out of memory"))));
}

}  // namespace
}  // namespace inkstone
