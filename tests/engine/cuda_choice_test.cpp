// The cuda device through the public API: what is said where it, or an arithmetic, is asked for in vain.
#include <gmock/gmock.h>

#include "cuda/cuda_device.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class CudaChoiceTest : public TinyModelTest {};

TEST_F(CudaChoiceTest, WithoutADeviceOpeningSaysWhy) {
  if (why_no_cuda().empty()) GTEST_SKIP() << "there is one";
  EXPECT_EQ(open_error({.model = kTiny, .device = DeviceKind::cuda}), "device cuda: " + why_no_cuda());
  EXPECT_THAT(why_no_cuda(), HasSubstr("; run on cpu, or "));
}

TEST_F(CudaChoiceTest, AnIndexIsToldAsItWasGiven) {
  if (why_no_cuda(7).empty()) GTEST_SKIP() << "there are so many";
  EXPECT_EQ(open_error({.model = kTiny, .device = DeviceKind::cuda, .device_index = 7}),
            "device cuda:7: " + why_no_cuda(7));
}

TEST_F(CudaChoiceTest, AutomaticTakesTheGpuIfThereIsOne) {
  const Engine engine = Engine::open({.model = kTiny, .device = DeviceKind::automatic});
  EXPECT_THAT(engine.describe().front(), StartsWith(why_no_cuda().empty() ? "cuda:0: " : "cpu: "));
}

TEST_F(CudaChoiceTest, EveryDeviceHasItsOwnArithmetic) {
  const auto error = [](DeviceKind device, Arithmetic arithmetic) {
    return open_error({.model = kTiny, .device = device, .arithmetic = arithmetic});
  };
  EXPECT_EQ(error(DeviceKind::cpu, Arithmetic::fp8),
            "arithmetic fp8: the cpu device has none, cuda has; cpu has half, int8 and int8_all");
  EXPECT_EQ(error(DeviceKind::cpu, Arithmetic::fp8_all),
            "arithmetic fp8_all: the cpu device has none, cuda has; cpu has half, int8 and int8_all");
  EXPECT_EQ(error(DeviceKind::cuda, Arithmetic::int8_all),
            "arithmetic int8_all: the cuda device has none, cpu has; cuda has int8, fp8 and fp8_all");
  EXPECT_EQ(error(DeviceKind::reference, Arithmetic::int8),
            "arithmetic int8: the reference device has none, cpu and cuda have");
  EXPECT_EQ(error(DeviceKind::reference, Arithmetic::fp8), "arithmetic fp8: the reference device has none, cuda has");
  EXPECT_EQ(error(DeviceKind::reference, Arithmetic::fp8_all),
            "arithmetic fp8_all: the reference device has none, cuda has");
  EXPECT_EQ(error(DeviceKind::reference, Arithmetic::half), "arithmetic half: the reference device has none, cpu has");
  for (const auto& [arithmetic, name] :
       {std::pair{Arithmetic::half, "half"}, {Arithmetic::fp16, "fp16"}, {Arithmetic::bf16, "bf16"}})
    EXPECT_EQ(
        error(DeviceKind::cuda, arithmetic),
        fmt::format("arithmetic {}: the cuda device has none, cpu has; cuda multiplies bf16 without being asked to",
                    name));
}

}  // namespace
}  // namespace inkstone
