// The cuda device through the public API: what it says where there is no GPU, and what it promises where there is one.
#include <gmock/gmock.h>

#include "cuda/cuda_device.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CudaTest : public TinyModelTest {
 protected:
  static EngineOptions options(const EngineOptions& wanted = {}) {
    EngineOptions o = wanted;
    o.model = kTiny;
    o.device = DeviceKind::cuda;
    return o;
  }
};

TEST_F(CudaTest, WithoutADeviceOpeningSaysWhy) {
  if (why_no_cuda().empty()) GTEST_SKIP() << "there is one";
  EXPECT_EQ(open_error(options()), "device cuda: " + why_no_cuda());
  EXPECT_THAT(why_no_cuda(), HasSubstr("; run on cpu, or "));
}

TEST_F(CudaTest, AutomaticTakesTheGpuIfThereIsOne) {
  const Engine engine = Engine::open({.model = kTiny, .device = DeviceKind::automatic});
  EXPECT_THAT(engine.describe().front(), StartsWith(why_no_cuda().empty() ? "cuda:0: " : "cpu: "));
}

class OnCudaTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  }
};

TEST_F(OnCudaTest, AnIndexThatIsNotThereIsAnError) {
  EXPECT_THAT(open_error(options({.device_index = 99})), StartsWith("device cuda:99: there are "));
}

TEST_F(OnCudaTest, TheSameSeedGivesTheSamePicture) {
  Engine first = Engine::open(options()), second = Engine::open(options());
  const Picture a = first.generate(small_request()).pictures[0];
  EXPECT_EQ(a.rgb, first.generate(small_request()).pictures[0].rgb);
  EXPECT_EQ(a.rgb, second.generate(small_request()).pictures[0].rgb);
}

TEST_F(OnCudaTest, SeveralPicturesAreThoseOfSingleRuns) {
  Engine engine = Engine::open(options({.held_as = HeldAs::f32}));
  Request request = small_request();
  request.count = 4;
  const Result together = engine.generate(request);
  for (size_t i = 0; i < 4; ++i) {
    Request one = small_request();
    one.seed = request.seed + i;
    const Picture alone = engine.generate(one).pictures[0];
    for (size_t j = 0; j < alone.rgb.size(); ++j) ASSERT_NEAR(alone.rgb[j], together.pictures[i].rgb[j], 1) << i;
  }
}

TEST_F(OnCudaTest, EveryOpAgreesWithTheCpu) {
  for (const HeldAs held : {HeldAs::f32, HeldAs::stored}) {
    Engine engine = Engine::open({.model = kTiny, .held_as = held, .compare = DeviceKind::cuda});
    EXPECT_THAT(engine.generate(small_request()).notes, ElementsAre(HasSubstr("calls agree with the cuda device")));
  }
}

TEST_F(OnCudaTest, TooLittleMemoryIsSaidBeforeTheWork) {
  Engine engine = Engine::open(options({.memory_limit = size_t{780} << 20}));  // 768 MB are kept as scratch
  EXPECT_THAT(error_of([&] { engine.generate(small_request()); }), HasSubstr("are available"));
}

TEST_F(OnCudaTest, ComparingFromTheGpuIsRefused) {
  EXPECT_THAT(open_error(options({.compare = DeviceKind::cpu})), HasSubstr("run on cpu and compare with cuda"));
}

}  // namespace
}  // namespace inkstone
