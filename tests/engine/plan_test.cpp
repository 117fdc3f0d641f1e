// The memory plan: whatever it chooses draws the same picture, and what cannot fit is refused.
#include <functional>
#include <gmock/gmock.h>

#include "engine/bound_memory.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

constexpr size_t kStep = size_t{2} << 20, kMostLess = size_t{40} << 20;

class PlanTest : public TinyModelTest {
 protected:
  static Engine tiny(size_t memory_limit = 0) {
    return Engine::open({.model = kTiny, .threads = 2, .memory_limit = memory_limit});
  }

  static Request request_of(int64_t width, int64_t height, int64_t count = 1) {
    return {.prompt = "a red circle", .steps = 2, .width = width, .height = height, .count = count};
  }

  /// With less and less memory, until the plan chose what is asked for.
  static void expect_same_pictures(const Request& request, const std::function<bool(const Plan&)>& chosen) {
    const Result expected = tiny().generate(request);
    bool was_chosen = false;
    for (size_t less = 0; !was_chosen && less < kMostLess; less += kStep) {
      const auto engine = engine_with_less_memory({.model = kTiny, .threads = 2}, request, less);
      if (!engine) continue;
      was_chosen = chosen(engine->plan(request));
      const Result result = engine->generate(request);
      for (size_t i = 0; i < expected.pictures.size(); ++i)
        EXPECT_EQ(result.pictures[i].rgb, expected.pictures[i].rgb) << "picture " << i << ", less " << less;
    }
    EXPECT_TRUE(was_chosen);
  }
};

TEST_F(PlanTest, WithoutALimitNothingIsCut) {
  const Plan plan = tiny().plan(request_of(192, 192, 3));
  EXPECT_EQ(plan.batch, 3);
  EXPECT_EQ(plan.band_rows, 0);
  EXPECT_FALSE(plan.transformer_streamed || plan.text_encoder_streamed);
}

TEST_F(PlanTest, InPartsOfTheBatchItDrawsTheSamePictures) {
  INKSTONE_BOUND_MEMORY();
  expect_same_pictures(request_of(192, 192, 3), [](const Plan& plan) { return plan.batch < 3; });
}

TEST_F(PlanTest, InBandsItDrawsTheSamePicture) {
  INKSTONE_BOUND_MEMORY();
  expect_same_pictures(request_of(320, 320), [](const Plan& plan) { return plan.band_rows > 0; });
}

TEST_F(PlanTest, StreamedInPartOrWholeItDrawsTheSamePicture) {
  INKSTONE_BOUND_MEMORY();
  const auto is_in_part = [](const Plan& plan) {
    return plan.transformer_streamed && plan.blocks_streamed < plan.blocks;
  };
  expect_same_pictures(request_of(64, 64), is_in_part);
  expect_same_pictures(request_of(64, 64),
                       [&](const Plan& plan) { return plan.transformer_streamed && !is_in_part(plan); });
}

TEST_F(PlanTest, StreamedBlocksAreNotTakenForEachOtherInEightBits) {
  INKSTONE_BOUND_MEMORY();
  EngineOptions options = {.model = kTiny, .arithmetic = Arithmetic::int8, .threads = 2};
  const Request request = request_of(64, 64);
  auto ample = std::make_unique<Engine>(Engine::open(options));
  const std::vector<uint8_t> expected = ample->generate(request).pictures[0].rgb;
  ample.reset();  // what it holds counts as this process's
  bool streamed = false;
  for (size_t less = 0; !streamed && less < kMostLess; less += kStep) {
    const auto engine = engine_with_less_memory(options, request, less);
    if (!engine || !engine->plan(request).transformer_streamed) continue;
    streamed = true;
    EXPECT_EQ(engine->generate(request).pictures[0].rgb, expected);
  }
  EXPECT_TRUE(streamed);
}

size_t denoising(const Plan& plan) { return plan.stages[1].own_bytes + plan.stages[1].mapped_bytes; }

TEST_F(PlanTest, RoundedWeightsAreKeptAsFarAsThereIsRoom) {
  INKSTONE_BOUND_MEMORY();
  EngineOptions options = {.model = kTiny, .arithmetic = Arithmetic::int8, .threads = 2};
  const Request small = request_of(64, 64), large = request_of(320, 320);
  auto ample = std::make_unique<Engine>(Engine::open(options));
  const std::vector<uint8_t> expected = ample->generate(small).pictures[0].rgb;
  const std::vector<uint8_t> expected_large = ample->generate(large).pictures[0].rgb;
  ample.reset();
  const auto engine = engine_with_less_memory(options, large, Engine::open(options).plan(large).needed_bytes / 20);
  ASSERT_TRUE(engine);
  const Plan before = engine->plan(small);
  EXPECT_FALSE(before.transformer_streamed);
  EXPECT_EQ(engine->generate(small).pictures[0].rgb, expected);
  // Were they counted again, it would be a third more.
  EXPECT_NEAR(static_cast<double>(denoising(engine->plan(small))), static_cast<double>(denoising(before)),
              0.1 * static_cast<double>(denoising(before)));
  // Another size takes the room of what the first call kept.
  EXPECT_EQ(engine->generate(large).pictures[0].rgb, expected_large);
  EXPECT_EQ(engine->generate(small).pictures[0].rgb, expected);
}

TEST_F(PlanTest, InEightBitsTheDecoderWorksInBandsForHalfOfTheMemory) {
  INKSTONE_BOUND_MEMORY();
  const Request request = request_of(768, 768);
  const auto decoding = [&](Arithmetic arithmetic) {
    Plan plan = Engine::open({.model = kTiny, .arithmetic = arithmetic, .threads = 2}).plan(request);
    return std::pair(plan.stages[2].own_bytes, plan.band_rows);
  };
  const auto [whole, all_rows] = decoding(Arithmetic::f32);
  const auto [half, rows] = decoding(Arithmetic::int8);
  EXPECT_EQ(all_rows, 0);
  EXPECT_GT(rows, 0);
  EXPECT_LT(half, 0.6 * whole) << "the process itself is in both";
}

TEST_F(PlanTest, SaysWhatWouldFit) {
  Engine engine = tiny(size_t{8} << 20);
  const std::string error = error_of([&] { engine.plan(request_of(512, 512)); });
  EXPECT_THAT(error, ::testing::AllOf(::testing::HasSubstr("size 512x512"), ::testing::HasSubstr("are available"),
                                      ::testing::HasSubstr("would do")));
  const std::string later = error_of([&] { engine.generate(request_of(512, 512)); });
  EXPECT_THAT(later, ::testing::HasSubstr("8.0 MiB are available"));  // the need has grown by what the first call holds
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
