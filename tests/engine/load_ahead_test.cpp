// Weights come into memory while other work goes on, and it makes no difference to what is drawn.
#include "engine/load_ahead.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#include "engine/bound_memory.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

class ReadAheadTest : public FolderTest {
 protected:
  /// Maps a new file, of which the system's cache holds nothing if it does as it is told.
  std::shared_ptr<MappedFile> uncached_file(size_t bytes) const {
    std::ofstream(at("weights"), std::ios::binary) << std::string(bytes, 'w');
    const MappedFile::Descriptor file(::open(at("weights").c_str(), O_RDONLY));
    fsync(file.fd);
    posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
    return MappedFile::open(at("weights"));
  }

  /// Pages of a file that are in the system's cache.
  static std::ptrdiff_t cached_pages(const MappedFile& file) {
    std::vector<unsigned char> pages((file.bytes().size() + kPage - 1) / kPage);
    mincore(const_cast<std::byte*>(file.bytes().data()), file.bytes().size(), pages.data());
    return std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
  }

  static void await(const ReadAhead& reading, size_t bytes) {
    while (reading.bytes() < bytes) std::this_thread::yield();
  }

  static constexpr size_t kPage = 4096, kBytes = (size_t{20} << 20) + 77;
};

TEST_F(ReadAheadTest, BringsFilesIntoTheSystemsCache) {
  const auto file = uncached_file(kBytes);
  const auto whole = static_cast<std::ptrdiff_t>((kBytes + kPage - 1) / kPage);
  if (cached_pages(*file) == whole) GTEST_SKIP() << "this file system keeps all in memory";
  constexpr int kTimes = 100;  // the system may leave some out, or give them up at once, while it has other work
  constexpr std::chrono::milliseconds kPause(10);
  std::ptrdiff_t cached = 0;
  for (int i = 0; i < kTimes && cached < whole; ++i) {
    ReadAhead reading({{file.get(), 0, 100}, {file.get(), 100, kBytes - 101}, {file.get(), kBytes - 1, 1}});
    await(reading, kBytes);
    cached = cached_pages(*file);
    const TimeSpan span = reading.stop();
    EXPECT_LE(span.begin, span.end);
    EXPECT_EQ(reading.bytes(), kBytes);
    if (cached < whole) std::this_thread::sleep_for(kPause);
  }
  EXPECT_EQ(cached, whole);
}

TEST_F(ReadAheadTest, LeavesAFileThatBecameShorterToThoseWhoNeedIt) {
  const auto file = uncached_file(kBytes);
  fs::resize_file(at("weights"), 1);
  ReadAhead reading({{file.get(), 0, kBytes}});
  await(reading, kBytes);
}

TEST(BackgroundLoadTest, RunsWhileItsOwnerDoesOtherWork) {
  std::promise<void> other_work_done;
  BackgroundLoad load({}, [&](const std::stop_token&) {
    other_work_done.get_future().wait();
    TransformerWeights weights;
    weights.blocks.resize(3);
    return weights;
  });
  other_work_done.set_value();
  EXPECT_EQ(load.take().blocks.size(), 3u);
  EXPECT_LE(load.span().begin, load.span().end);
}

TEST(BackgroundLoadTest, GivesErrorsToWhoTakesIt) {
  BackgroundLoad load({}, [](const std::stop_token&) -> TransformerWeights { fail("a tensor is missing"); });
  EXPECT_THAT(error_of([&] { load.take(); }), HasSubstr("a tensor is missing"));
}

TEST(BackgroundLoadTest, StopsWithItsOwnerAndWhenNobodyWantsItAnyMore) {
  const auto until_stopped = [](const std::stop_token& stop) -> TransformerWeights {
    while (!stop.stop_requested()) std::this_thread::yield();
    throw Cancelled();
  };
  std::stop_source owner;
  BackgroundLoad load(owner.get_token(), until_stopped);
  owner.request_stop();
  EXPECT_THROW(load.take(), Cancelled);
  const BackgroundLoad dropped({}, until_stopped);  // or its end would wait for ever
}

class LoadAheadTest : public TinyModelTest {
 protected:
  static std::vector<std::string> done_beside(const Result& result) {
    std::vector<std::string> names;
    for (const Activity& activity : result.timeline)
      if (activity.beside) names.push_back(activity.what);
    return names;
  }
};

TEST_F(LoadAheadTest, TellsWhatWasDoneWhen) {
  Engine engine = Engine::open({.model = kTiny, .threads = 2});
  EXPECT_TRUE(engine.plan(small_request()).transformer_beside);
  const Result result = engine.generate(small_request());
  EXPECT_THAT(done_beside(result), ::testing::ElementsAre("transformer bound", "weights read ahead"));
  double last = 0;
  for (const Activity& activity : result.timeline) {
    EXPECT_LE(activity.begin_s, activity.end_s) << activity.what;
    if (activity.beside) continue;
    EXPECT_LE(last, activity.begin_s) << activity.what;
    last = activity.end_s;
  }
  EXPECT_THAT(done_beside(engine.generate(small_request("a blue square"))),
              ::testing::ElementsAre("weights read ahead"))
      << "it is bound already";
}

TEST_F(LoadAheadTest, DrawsTheSameWhereBothDoNotFitIntoMemory) {
  INKSTONE_BOUND_MEMORY();
  const EngineOptions options = {.model = kTiny, .held_as = HeldAs::f32, .threads = 2};
  const Request request = small_request();
  auto ample = std::make_unique<Engine>(Engine::open(options));
  const Plan both = ample->plan(request);
  ASSERT_TRUE(both.transformer_beside);
  const std::vector<uint8_t> expected = ample->generate(request).pictures[0].rgb;
  ample.reset();
  bool was_alone = false;
  constexpr size_t kStep = size_t{1} << 20, kMostLess = size_t{40} << 20;
  for (size_t less = 0; !was_alone && less < kMostLess; less += kStep) {
    const auto engine = engine_with_less_memory(options, request, less);
    if (!engine || engine->plan(request).transformer_beside) continue;
    was_alone = true;
    const Result result = engine->generate(request);
    EXPECT_EQ(result.pictures[0].rgb, expected);
    EXPECT_THAT(done_beside(result), ::testing::Not(::testing::Contains("transformer bound")));
  }
  EXPECT_TRUE(was_alone);
}

TEST_F(LoadAheadTest, ABrokenTextEncoderStopsIt) {
  const fs::path model = linked_model();
  change_tensors(own(model, "text_encoder"), [](std::map<std::string, Tensor>& tensors) {
    auto& norm = tensors.at("model.norm.weight");
    norm = host_tensor(std::vector<float>(static_cast<size_t>(norm.count()), NAN));
  });
  Engine engine = Engine::open({.model = model, .held_as = HeldAs::f32, .threads = 2});
  EXPECT_THAT(error_of([&] { engine.generate(small_request()); }), HasSubstr("model.norm.weight"));
}

}  // namespace
}  // namespace inkstone
