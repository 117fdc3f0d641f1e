// A GPU that is lost while a model is bound or a picture is drawn: an error of that call and of every later one, and an
// orderly end.
#include <cstdlib>
#include <gmock/gmock.h>

#include "cuda/cuda_device.h"
#include "engine/generation.h"
#include "engine/session.h"
#include "engine/streamed_options.h"
#include "engine/tiny_model.h"
#include "ops/lost_device.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;
using ::testing::Not;

/// Enough steps to be replayed.
Request eight_steps() {
  Request request = small_request();
  request.steps = 8;
  return request;
}

/// When a stage has done so many steps.
struct Moment {
  Stage stage;
  int64_t step = 0;
};

/// Ends the process, which loses the device then. What is thrown becomes one line of the program and its exit
/// code as any Error does.
[[noreturn]] void lose_the_device_at(const Moment& moment, const EngineOptions& options) {
  {
    Session session(options);
    Request request = eight_steps();
    request.progress = [&](const Progress& progress) {
      if (progress.stage == moment.stage && progress.step == moment.step) lose(session.machine().device());
    };
    tell_error_of("this call", [&] { generate(session, request, 0); });
    tell_error_of("the next call", [&] { generate(session, eight_steps(), 0); });
    tell_error_of("another engine", [&] { Session again(options); });
  }
  std::fputs("the end\n", stderr);
  std::exit(EXIT_SUCCESS);
}

class CudaLostTest : public TinyModelTest {
 protected:
  void SetUp() override {
    TinyModelTest::SetUp();
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own, as CUDA survives no fork
  }

  static EngineOptions options() { return {.model = kTiny, .device = DeviceKind::cuda}; }

  static void expect_errors(const Moment& moment, const EngineOptions& o) {
    EXPECT_EXIT(lose_the_device_at(moment, o), ExitedWithCode(EXIT_SUCCESS),
                AllOf(ContainsRegex("this call: device cuda.*: an illegal memory access was encountered"),
                      HasSubstr("the next call: device cuda"), HasSubstr("another engine: "), HasSubstr("the end"),
                      Not(HasSubstr("no error")), Not(HasSubstr("out of memory"))));
  }
};

TEST_F(CudaLostTest, BeforeWeightsAreBound) { expect_errors({Stage::load}, options()); }

TEST_F(CudaLostTest, BeforeStepsAreReplayed) { expect_errors({Stage::denoise, 1}, options()); }

TEST_F(CudaLostTest, WhileStepsAreReplayed) { expect_errors({Stage::denoise, 5}, options()); }

TEST_F(CudaLostTest, WhileBlocksAreStreamed) {
  expect_errors({Stage::denoise, 5}, with_streamed_blocks(options(), eight_steps()));
}

TEST_F(CudaLostTest, BeforeThePictureIsDecoded) { expect_errors({Stage::decode}, options()); }

}  // namespace
}  // namespace inkstone
