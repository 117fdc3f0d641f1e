// Memory of a GPU in whole runs: what is asked of the driver, and what is said when it gives no more.
#include <gmock/gmock.h>
#include <optional>

#include "cuda/cuda_device.h"
#include "engine/generation.h"
#include "engine/sees_every_op.h"
#include "engine/session.h"
#include "engine/streamed_options.h"
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

constexpr int64_t kSteps = 8;

Request guided_request() {
  Request request = small_request();
  request.steps = kSteps;
  request.negative_prompt = "a square";
  request.cfg = 3;
  return request;
}

/// Blocks of memory that were ever taken from the driver and given back.
using Traffic = std::pair<size_t, size_t>;

/// After the second step and each that follows.
std::vector<Traffic> traffic_after_steps(Session& session, Request request) {
  std::vector<Traffic> traffic;
  request.progress = [&](const Progress& progress) {
    if (progress.stage != Stage::denoise || progress.step < 2) return;
    const MemoryUse use = session.machine().device().memory();
    traffic.emplace_back(use.blocks_taken, use.blocks_given_back);
  };
  generate(session, request, 0);
  return traffic;
}

void expect_no_traffic(const EngineOptions& options, const Decorate& decorate, const std::string& what) {
  Session session(options, decorate);
  const std::vector<Traffic> traffic = traffic_after_steps(session, guided_request());
  ASSERT_THAT(traffic, SizeIs(kSteps - 1));
  EXPECT_GT(traffic.front().first, 0);
  EXPECT_THAT(traffic, Each(traffic.front())) << what;
}

TEST_F(CudaMemoryTest, TheDriverIsAskedForNoneAndGivenNoneFromTheThirdStepOn) {
  std::vector<std::pair<std::string, EngineOptions>> all = {
      {"bf16", options()}, {"f32", options()}, {"int8", options(Arithmetic::int8)}};
  all[1].second.held_as = HeldAs::f32;
  if (why_no_fp8().empty()) all.emplace_back("fp8", options(Arithmetic::fp8));
  const Decorate see_every_op = [](Kernels& next) { return std::make_unique<SeesEveryOp>(next); };
  for (const auto& [name, o] : all) {
    expect_no_traffic(o, {}, name + ", replayed");
    expect_no_traffic(o, see_every_op, name + ", op by op");
    if (o.held_as == HeldAs::f32) continue;  // converted weights are never streamed
    expect_no_traffic(with_streamed_blocks(o, guided_request()), {}, name + ", blocks streamed");
  }
}

}  // namespace
}  // namespace inkstone
