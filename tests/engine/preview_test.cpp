// Small pictures while latents are drawn.
#include <cmath>
#include <gmock/gmock.h>

#include "cuda/cuda_device.h"
#include "engine/bound_memory.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using testing::ElementsAre;

class PreviewTest : public TinyModelTest {
 protected:
  /// All previews of a request.
  static std::vector<Preview> previews_of(Request request, Result* result = nullptr,
                                          DeviceKind device = DeviceKind::cpu) {
    std::vector<Preview> previews;
    request.preview = [&](const Preview& preview) { previews.push_back(preview); };
    Result made = Engine::open({.model = kTiny, .device = device}).generate(request);
    if (result != nullptr) *result = std::move(made);
    return previews;
  }
};

/// Of a preview's numbers and the means of a picture's pixels that they stand for: 1 if one follows from the other.
double correlation(const Preview& preview, const Picture& picture) {
  const int64_t scale = picture.width / preview.width;
  double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (int64_t i = 0; i < preview.height; ++i)
    for (int64_t j = 0; j < preview.width; ++j)
      for (int64_t c = 0; c < 3; ++c) {
        double mean = 0;
        for (int64_t dy = 0; dy < scale; ++dy)
          for (int64_t dx = 0; dx < scale; ++dx)
            mean += picture.rgb[static_cast<size_t>(((i * scale + dy) * picture.width + j * scale + dx) * 3 + c)];
        mean /= static_cast<double>(scale * scale);
        const double guess = preview.rgb[static_cast<size_t>((i * preview.width + j) * 3 + c)];
        n += 1, x += guess, y += mean, xx += guess * guess, yy += mean * mean, xy += guess * mean;
      }
  return (n * xy - x * y) / std::sqrt((n * xx - x * x) * (n * yy - y * y));
}

TEST_F(PreviewTest, ComeAfterTheStepsAskedForAndTheLast) {
  Request request = small_request();
  request.steps = 5;
  request.width = 96;
  request.preview_every = 2;
  std::vector<int64_t> steps;
  for (const Preview& preview : previews_of(request)) {
    steps.push_back(preview.step);
    EXPECT_EQ(preview.steps, 5);
    EXPECT_EQ(preview.width, 96);
    EXPECT_EQ(preview.height, 64);
    EXPECT_EQ(preview.rgb.size(), 96u * 64u * 3u);
  }
  EXPECT_THAT(steps, ElementsAre(2, 4, 5));
}

TEST_F(PreviewTest, TheLastOfASmallPictureIsThePicture) {
  Result result;
  const std::vector<Preview> previews = previews_of(small_request(), &result);
  EXPECT_EQ(previews.back().rgb, result.pictures[0].rgb);
  EXPECT_NE(previews.front().rgb, result.pictures[0].rgb);
}

TEST_F(PreviewTest, TheLastFromAGpuIsThePicture) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  Request request = small_request();
  request.steps = 6;  // of which some are replayed
  Result result;
  const std::vector<Preview> previews = previews_of(request, &result, DeviceKind::cuda);
  ASSERT_EQ(previews.size(), 6u);
  EXPECT_EQ(previews.back().rgb, result.pictures[0].rgb);
}

TEST_F(PreviewTest, OfALargePictureAreSmallAndLookLikeItFromEarlyOn) {
  Result result;
  const std::vector<Preview> previews = previews_of(
      {.prompt = "a large red circle on a white background", .steps = 6, .width = 320, .height = 512}, &result);
  ASSERT_EQ(previews.size(), 6u);
  for (const Preview& preview : previews) {
    EXPECT_EQ(preview.width, 160);
    EXPECT_EQ(preview.height, 256);
  }
  EXPECT_GT(correlation(previews.back(), result.pictures[0]), 0.9);
  EXPECT_GT(correlation(previews.front(), result.pictures[0]), 0.8);  // 0.57 with the noise that is left
}

TEST_F(PreviewTest, ThePlanCountsThem) {
  Engine engine = Engine::open({.model = kTiny});
  Request request = small_request();
  request.width = request.height = 256;
  const auto bytes = [&] { return engine.plan(request).stages[1].own_bytes; };
  const size_t without = bytes();
  request.preview = [](const Preview&) {};
  EXPECT_GT(bytes(), without);
}

TEST_F(PreviewTest, AreOfEachPictureAndChangeNone) {
  Request request = small_request();
  request.count = 3;
  Result with;
  std::vector<int64_t> pictures;
  for (const Preview& preview : previews_of(request, &with))
    if (preview.step == 2) pictures.push_back(preview.picture);
  EXPECT_THAT(pictures, ElementsAre(0, 1, 2));
  const Result without = Engine::open({.model = kTiny}).generate(request);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(with.pictures[i].rgb, without.pictures[i].rgb);
}

TEST_F(PreviewTest, OfPicturesDrawnOneAfterTheOtherAreThoseOfEach) {
  INKSTONE_BOUND_MEMORY();
  constexpr size_t kStep = size_t{2} << 20, kMostLess = size_t{80} << 20;
  constexpr int64_t kCount = 10;  // which take more than a preview does
  Request request = {
      .prompt = "a red circle", .steps = 2, .width = 192, .height = 192, .count = kCount, .preview_every = 2};
  std::vector<Preview> previews;
  request.preview = [&](const Preview& preview) { previews.push_back(preview); };
  for (size_t less = 0; less < kMostLess; less += kStep) {
    const auto engine = engine_with_less_memory({.model = kTiny, .threads = 2}, request, less);
    if (!engine || engine->plan(request).batch == kCount) continue;
    const Result result = engine->generate(request);
    ASSERT_EQ(previews.size(), size_t{kCount});
    for (size_t i = 0; i < previews.size(); ++i) {
      EXPECT_EQ(previews[i].picture, static_cast<int64_t>(i));
      EXPECT_EQ(previews[i].rgb, result.pictures[i].rgb);
    }
    return;
  }
  FAIL() << "all were drawn at once";
}

TEST_F(PreviewTest, AskedForEveryNoStepAreRefused) {
  Request request = small_request();
  request.preview_every = 0;
  EXPECT_EQ(error_of([&] { previews_of(request); }), "preview every 0: 1 to 1000 work");
}

TEST_F(PreviewTest, AStopRequestWithinOneEndsTheCall) {
  std::stop_source stop;
  Request request = small_request();
  request.stop = stop.get_token();
  request.preview = [&](const Preview&) { stop.request_stop(); };
  EXPECT_THROW(Engine::open({.model = kTiny}).generate(request), Cancelled);
}

}  // namespace
}  // namespace inkstone
