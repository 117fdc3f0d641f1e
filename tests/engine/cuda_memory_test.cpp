// Memory of a GPU in whole runs: what is asked of the driver, and what is said when it gives no more.
#include <gmock/gmock.h>
#include <optional>

#include "cuda/cuda_device.h"
#include "engine/generation.h"
#include "engine/sees_every_op.h"
#include "engine/session.h"
#include "engine/tiny_model.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class CudaMemoryTest : public TinyModelTest {
 protected:
  void SetUp() override {
    TinyModelTest::SetUp();
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  }
  static EngineOptions options(Arithmetic arithmetic = Arithmetic::f32) {
    return {.model = kTiny, .device = DeviceKind::cuda, .arithmetic = arithmetic};
  }
};

/// Everything that is left of the GPU's memory.
class AllThatIsLeft {
 public:
  AllThatIsLeft() : device_(make_cuda_device({.memory_limit = size_t{1} << 50})) {
    for (size_t bytes = size_t{64} << 30; bytes >= kLeast;) try {
        held_.push_back(device_->allocate(bytes));
      } catch (const Error&) {
        bytes /= 2;
      }
  }

 private:
  static constexpr size_t kLeast = size_t{2} << 20;  // of which the driver makes its blocks

  std::unique_ptr<Device> device_;
  std::vector<std::shared_ptr<Buffer>> held_;
};

TEST_F(CudaMemoryTest, MemoryThatOthersTookMeanwhileIsAnErrorAndTheNextCallDraws) {
  const std::vector<uint8_t> expected = Engine::open(options()).generate(small_request()).pictures[0].rgb;
  Engine engine = Engine::open(options());
  std::optional<AllThatIsLeft> others;
  Request request = small_request();
  request.progress = [&](const Progress& progress) {
    if (progress.stage == Stage::encode && !others) others.emplace();
  };
  EXPECT_THAT(error_of([&] { engine.generate(request); }), HasSubstr("out of memory on cuda:0: "));
  others.reset();
  EXPECT_EQ(engine.generate(small_request()).pictures[0].rgb, expected);
}

/// How many blocks of memory were ever taken, after the second step and each that follows.
std::vector<size_t> blocks_after_steps(Session& session, int64_t steps) {
  std::vector<size_t> taken;
  Request request = small_request();
  request.steps = steps;
  request.negative_prompt = "a square";
  request.cfg = 3;
  request.progress = [&](const Progress& progress) {
    if (progress.stage == Stage::denoise && progress.step >= 2)
      taken.push_back(session.machine().device().memory().blocks_taken);
  };
  generate(session, request, 0);
  return taken;
}

TEST_F(CudaMemoryTest, NoneIsAskedOfTheDriverFromTheThirdStepOn) {
  constexpr int64_t kSteps = 8;
  std::vector<Arithmetic> all = {Arithmetic::f32, Arithmetic::int8};
  if (why_no_fp8().empty()) all.push_back(Arithmetic::fp8);
  for (const Arithmetic arithmetic : all)
    for (const bool replays : {true, false}) {
      const Decorate see_every_op = [](Kernels& next) { return std::make_unique<SeesEveryOp>(next); };
      Session session(options(arithmetic), replays ? Decorate() : see_every_op);
      const std::vector<size_t> taken = blocks_after_steps(session, kSteps);
      ASSERT_THAT(taken, SizeIs(kSteps - 1));
      EXPECT_GT(taken.front(), 0);
      EXPECT_THAT(taken, Each(taken.front())) << static_cast<int>(arithmetic) << ", replayed: " << replays;
    }
}

}  // namespace
}  // namespace inkstone
