// The memory plan: whatever it chooses draws the same picture, and what cannot fit is refused.
#include <gmock/gmock.h>

#include "engine/tiny_model.h"

namespace inkstone {
namespace {

class PlanTest : public TinyModelTest {
 protected:
  static Engine tiny(size_t memory_limit = 0) {
    return Engine::open({.model = kTiny, .threads = 2, .memory_limit = memory_limit});
  }

  static Request request_of(int64_t width, int64_t height, int64_t count = 1) {
    return {.prompt = "a red circle", .steps = 2, .width = width, .height = height, .count = count};
  }
};

TEST_F(PlanTest, WhateverItChoosesDrawsTheSamePicture) {
  const Request request = request_of(256, 256, 3);
  Engine ample = tiny();
  const Plan free = ample.plan(request);
  EXPECT_EQ(free.batch, 3);
  EXPECT_EQ(free.band_rows, 0);
  EXPECT_FALSE(free.transformer_streamed || free.text_encoder_streamed);
  const Result expected = ample.generate(request);
  bool apart = false, banded = false, streamed = false;
  for (size_t limit = free.needed_bytes; !(apart && banded && streamed); limit -= limit / 32) {
    Engine engine = tiny(limit);
    const Plan plan = engine.plan(request);
    if (plan.batch == 3 && plan.band_rows == 0 && !plan.transformer_streamed) continue;
    apart |= plan.batch<3, banded |= plan.band_rows> 0, streamed |= plan.transformer_streamed;
    const Result result = engine.generate(request);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(result.pictures[i].rgb, expected.pictures[i].rgb)
          << "batch " << plan.batch << ", bands of " << plan.band_rows << ", streamed " << plan.transformer_streamed;
  }
}

TEST_F(PlanTest, StreamedBlocksAreNotTakenForEachOtherInEightBits) {
  EngineOptions options = {.model = kTiny, .arithmetic = Arithmetic::int8, .threads = 2};
  const Request request = request_of(64, 64);
  Engine ample = Engine::open(options);
  const std::vector<uint8_t> expected = ample.generate(request).pictures[0].rgb;
  bool streamed = false;
  for (options.memory_limit = ample.plan(request).needed_bytes; !streamed;
       options.memory_limit -= options.memory_limit / 32) {
    Engine engine = Engine::open(options);
    if (!engine.plan(request).transformer_streamed) continue;
    streamed = true;
    EXPECT_EQ(engine.generate(request).pictures[0].rgb, expected);
  }
}

TEST_F(PlanTest, SaysWhatWouldFit) {
  Engine engine = tiny(size_t{8} << 20);
  const std::string error = error_of([&] { engine.plan(request_of(512, 512)); });
  EXPECT_THAT(error, ::testing::AllOf(::testing::HasSubstr("size 512x512"), ::testing::HasSubstr("are available"),
                                      ::testing::HasSubstr("would do")));
  const std::string later = error_of([&] { engine.generate(request_of(512, 512)); });
  EXPECT_THAT(later, ::testing::HasSubstr("8.39 MB are available"));  // the need has grown by what the first call holds
}

TEST_F(PlanTest, ASecondCallNeedsNoTextEncoderForTheSamePrompt) {
  Engine engine = tiny();
  const Request request = request_of(64, 64);
  const Plan first = engine.plan(request);
  engine.generate(request);
  EXPECT_LT(engine.plan(request).stages[0].mapped_bytes, first.stages[0].mapped_bytes);
}

}  // namespace
}  // namespace inkstone
