// The cuda device through the public API: what it promises where there is a GPU.
#include <array>
#include <cstring>
#include <future>
#include <gmock/gmock.h>
#include <limits>
#include <optional>

#include "inkstone/quantize.h"

#include "cuda/cuda_device.h"
#include "engine/bound_memory.h"
#include "engine/generation.h"
#include "engine/job.h"
#include "engine/sees_every_op.h"
#include "engine/session.h"
#include "engine/streamed_options.h"
#include "engine/tiny_model.h"
#include "model/pipeline.h"
#include "ops/beside_ampere.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// PSNR of two pictures.
double decibels(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.size()) / squares);
}

/// So large that its rows take the kernels of large pictures.
Request large_request() {
  Request request = small_request();
  request.width = request.height = 384;
  return request;
}

/// 3600 tokens, so many that fp8_all would have its attention in 8 bits. At such a size the small model draws one grey
/// surface of a simpler prompt, which no rounding changes by much.
Request long_request() {
  Request request = small_request("a large blue square left of a small yellow star on a green background");
  request.width = request.height = 960;
  return request;
}

class CudaTest : public TinyModelTest {
 protected:
  static EngineOptions options(const EngineOptions& wanted = {}) {
    EngineOptions o = wanted;
    o.model = kTiny;
    o.device = DeviceKind::cuda;
    return o;
  }
};

class OnCudaTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  }
};

TEST_F(OnCudaTest, AnIndexThatIsNotThereIsAnError) {
  EXPECT_THAT(open_error(options({.device_index = 99})), StartsWith("device cuda:99: the number of GPUs is "));
}

TEST_F(OnCudaTest, TheSameSeedGivesTheSamePicture) {
  Engine first = Engine::open(options()), second = Engine::open(options());
  const Picture a = first.generate(small_request()).pictures[0];
  EXPECT_EQ(a.rgb, first.generate(small_request()).pictures[0].rgb);
  EXPECT_EQ(a.rgb, second.generate(small_request()).pictures[0].rgb);
}

/// Draws with each of these engines in a thread of its own, twice, and expects what the first of them draws alone.
void expect_same_pictures_at_once(const std::vector<EngineOptions>& options, const Request& request) {
  std::vector<Engine> engines;
  for (const EngineOptions& o : options) engines.push_back(Engine::open(o));
  const std::vector<uint8_t> alone = engines.front().generate(request).pictures[0].rgb;
  std::vector<std::future<std::vector<uint8_t>>> drawn;
  for (Engine& engine : engines)
    drawn.push_back(std::async(std::launch::async, [&] {
      engine.generate(request);
      return engine.generate(request).pictures[0].rgb;
    }));
  for (auto& picture : drawn) EXPECT_EQ(picture.get(), alone);
}

/// Steps enough that they are replayed.
Request replayed_request() {
  Request request = small_request();
  request.steps = 8;
  return request;
}

TEST_F(OnCudaTest, TwoEnginesDrawOnOneGpuAtTheSameTime) {
  expect_same_pictures_at_once({options(), options()}, small_request());
}

TEST_F(OnCudaTest, TwoEnginesReplayOnOneGpuAtTheSameTime) {
  expect_same_pictures_at_once({options(), options()}, replayed_request());
}

TEST_F(OnCudaTest, OneEngineReplaysWhileTheOtherStreamsItsBlocks) {
  expect_same_pictures_at_once({options(), with_streamed_blocks(options(), replayed_request())}, replayed_request());
}

TEST_F(OnCudaTest, TwoGpusDrawInOneProcessAtTheSameTime) {
  constexpr int kTooMany = 99;  // the error tells how many there are
  if (open_error(options({.device_index = kTooMany})).find("number of GPUs is 1,") != std::string::npos)
    GTEST_SKIP() << "there is one GPU";
  expect_same_pictures_at_once({options(), options({.device_index = 1})}, small_request());
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

/// Four pictures of one call against those of single calls. They were the same on an H200 in every arithmetic. But
/// cuBLASLt's products have other sizes, so that another version may add in another order, and one rounding that tips
/// is seen by all that follow: hence a bound.
void expect_like_single_runs(const EngineOptions& options, Request request = small_request()) {
  constexpr double kLeastDecibels = 50;
  Engine engine = Engine::open(options);
  request.count = 4;
  request.negative_prompt = "a square";
  request.cfg = 3;
  const Result together = engine.generate(request);
  double worst = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < together.pictures.size(); ++i) {
    Request one = request;
    one.count = 1;
    one.seed = request.seed + i;
    worst = std::min(worst, decibels(engine.generate(one).pictures[0].rgb, together.pictures[i].rgb));
  }
  EXPECT_GT(worst, kLeastDecibels);
  ::testing::Test::RecordProperty("decibels", fmt::format("{:.1f}", worst));
}

TEST_F(OnCudaTest, SeveralPicturesAreLikeThoseOfSingleRunsInBf16) { expect_like_single_runs(options()); }

TEST_F(OnCudaTest, SeveralLargePicturesAreLikeThoseOfSingleRunsInBf16) {
  expect_like_single_runs(options(), large_request());
}

TEST_F(OnCudaTest, EveryOpAgreesWithTheCpu) {
  for (const HeldAs held : {HeldAs::f32, HeldAs::stored}) {
    Engine engine = Engine::open({.model = kTiny, .held_as = held, .compare = DeviceKind::cuda});
    EXPECT_THAT(engine.generate(small_request()).notes, ElementsAre(HasSubstr("calls agree with the cuda device")));
  }
}

TEST_F(OnCudaTest, TooLittleMemoryIsSaidBeforeTheWork) {
  constexpr size_t kLittle = size_t{1} << 30;
  Engine engine = Engine::open(options({.memory_limit = kLittle}));
  EXPECT_THAT(error_of([&] { engine.generate(small_request()); }), HasSubstr("1.00 GiB are available"));
  EXPECT_THAT(error_of([] { Engine::open(options({.memory_limit = kLittle / 2})); }),
              AllOf(StartsWith("memory 537 MB: "), HasSubstr("CUDA itself takes 671 MB")));
}

TEST_F(OnCudaTest, TheLeastMemoryThatARefusalNamesIsEnough) {
  const std::string refusal =
      error_of([] { Engine::open(options({.memory_limit = size_t{1} << 30})).generate(small_request()); });
  const size_t enough = memory_named(refusal);
  ASSERT_GT(enough, 0) << refusal;
  EXPECT_EQ(Engine::open(options({.memory_limit = enough})).generate(small_request()).pictures.size(), 1u);
}

/// Latents that the transformer draws with its blocks at a place.
Tensor latents_with(Session& session, const BlockPlacement& placement) {
  Ops& ops = session.machine().ops();
  const Job job = make_job(session.model(), small_request());
  const std::vector<Tensor> prompts = session.encode(std::array{job.prompt_tokens}, [] {});
  const TransformerConfig& config = session.model().transformer;
  const Transformer transformer(config, session.transformer(placement));
  if (placement.place != BlockPlace::bound) session.stream_modulation(Caching::cached);
  const Sampler sampler(ops, transformer, job.sigmas, 1);
  session.end_transformer();
  if (placement.streamed > 0) session.stream_blocks(Caching::cached);
  const Tensor noise = ops.patchify(ops.upload(starting_noise(job)), config.patch);
  const Tensor drawn =
      ops.download(sampler.run({.grid = job.grid, .prompts = prompts}, noise, [](int64_t, const Tensor&) {}));
  session.end_transformer();
  return drawn;
}

void expect_same_latents_wherever_blocks_are(const EngineOptions& options) {
  Session session(options);
  const Tensor expected = latents_with(session, {});
  const auto all = static_cast<size_t>(session.model().transformer.layers);
  for (const BlockPlacement& placement : std::initializer_list<BlockPlacement>{{BlockPlace::files, all},
                                                                               {BlockPlace::files, 3},
                                                                               {BlockPlace::bound_alone},
                                                                               {BlockPlace::on_host, all},
                                                                               {BlockPlace::on_host, all - 1},
                                                                               {BlockPlace::on_host, 2},
                                                                               {BlockPlace::on_host, 1},
                                                                               {}}) {
    const Tensor got = latents_with(session, placement);
    EXPECT_EQ(session.transformer_placement(), placement);
    EXPECT_EQ(std::memcmp(got.data<void>(), expected.data<void>(), got.bytes()), 0)
        << static_cast<int>(placement.place) << ", " << placement.streamed;
  }
}

/// With less and less memory of the GPU, until the transformer is streamed.
void expect_same_picture_streamed(EngineOptions options) {
  constexpr size_t kStep = size_t{2} << 20, kAmple = size_t{4} << 30;
  const std::vector<uint8_t> expected = Engine::open(options).generate(small_request()).pictures[0].rgb;
  options.memory_limit = kAmple;
  const Plan resident = Engine::open(options).plan(small_request());
  EXPECT_FALSE(resident.transformer_streamed);
  size_t limit = resident.needed_bytes;
  bool modulation_alone = false;
  for (Plan plan = resident; !plan.transformer_on_host; limit -= kStep) {
    options.memory_limit = limit;
    Engine engine = Engine::open(options);
    plan = engine.plan(small_request());
    if (!plan.modulation_streamed) continue;
    modulation_alone |= !plan.transformer_streamed;
    EXPECT_EQ(plan.transformer_on_host, plan.transformer_streamed);
    for (int call = 0; call < 2; ++call) {
      const Result result = engine.generate(small_request());
      EXPECT_EQ(result.pictures[0].rgb, expected) << limit;
      EXPECT_LE(result.peak_bytes, limit);
    }
  }
  EXPECT_TRUE(modulation_alone);
}

TEST_F(OnCudaTest, WhereverItsBlocksAreTheTransformerGivesTheSame) {
  expect_same_latents_wherever_blocks_are(options());
}

TEST_F(OnCudaTest, ReplayedStepsDrawTheSamePicture) {
  Request request = small_request();
  request.steps = 6;
  request.negative_prompt = "a square";
  request.cfg = 3;
  Session replayed(options()), told(options(), [](Kernels&next) { return std::make_unique<SeesEveryOp>(next); });
  const Result expected = generate(told, request, 0);
  for (int call = 0; call < 2; ++call)
    EXPECT_EQ(generate(replayed, request, 0).pictures[0].rgb, expected.pictures[0].rgb) << call;
}

TEST_F(OnCudaTest, AStopRequestIsHeardBetweenReplays) {
  Engine engine = Engine::open(options());
  Request request = small_request();
  request.steps = 50;
  std::stop_source stop;
  request.stop = stop.get_token();
  request.progress = [&](const Progress& progress) {
    if (progress.stage == Stage::denoise && progress.step == 10) stop.request_stop();
  };
  EXPECT_THROW(engine.generate(request), Cancelled);
  EXPECT_EQ(engine.generate(small_request()).pictures.size(), 1);
}

/// Asks for a stop behind a product of queries, keys and values that fills a GPU, which waits for the next op.
class StopsBeforeJoin final : public Interceptor {
 public:
  /// `joins`: how many of them come to their join before.
  StopsBeforeJoin(Kernels& next, int& joins, std::stop_source& stop) : next_(next), joins_(joins), stop_(stop) {}

 private:
  void intercept(const Call& call) override {
    call.run(next_, call.out);
    const bool waits = call.op == "linear" && call.parts[0].layer->slabs.size() > 1;
    if (waits && --joins_ < 0) stop_.request_stop();
  }

  Kernels& next_;
  int& joins_;
  std::stop_source& stop_;
};

TEST_F(OnCudaTest, AfterAStopBetweenAProductAndItsJoinTheNextCallDraws) {
  Request request = small_request();
  request.width = 512, request.height = 256;  // 512 tokens
  for (const EngineOptions& o : {options(), with_streamed_blocks(options(), request)}) {
    int joins = std::numeric_limits<int>::max();
    std::stop_source stop;
    Session session(o, [&](Kernels& next) { return std::make_unique<StopsBeforeJoin>(next, joins, stop); });
    const std::vector<uint8_t> expected = generate(session, request, 0).pictures[0].rgb;
    for (const int block : {0, 3, 7}) {
      joins = block;
      stop = {};
      Request stopped = request;
      stopped.stop = stop.get_token();
      EXPECT_THROW(generate(session, stopped, 0), Cancelled) << block;
      joins = std::numeric_limits<int>::max();
      EXPECT_EQ(generate(session, request, 0).pictures[0].rgb, expected) << block;
    }
  }
}

TEST_F(OnCudaTest, TheStreamedTextEncoderGivesTheSame) {
  std::vector<std::vector<float>> embeddings;
  for (const bool streamed : {false, true}) {
    Session session(options());
    if (streamed) session.stream_text_encoder(Caching::cached);
    const Job job = make_job(session.model(), small_request());
    const Tensor host = session.machine().ops().download(session.encode(std::array{job.prompt_tokens}, [] {}).front());
    embeddings.emplace_back(host.span<const float>().begin(), host.span<const float>().end());
  }
  EXPECT_EQ(embeddings[0], embeddings[1]);
}

TEST_F(OnCudaTest, TheTextEncoderStaysFromTheSecondPromptOn) {
  Session session(options());
  Request request = small_request();
  for (const bool first : {true, false}) {
    request.prompt += " again";
    Session other(options());
    EXPECT_EQ(generate(session, request, 0).pictures[0].rgb, generate(other, request, 0).pictures[0].rgb);
    EXPECT_EQ(session.holds_text_encoder(), !first);
  }
  generate(session, request, 0);
  EXPECT_TRUE(session.holds_text_encoder()) << "after a prompt that was encoded before";
  request.prompt += " and again";
  Session other(options());
  EXPECT_EQ(generate(session, request, 0).pictures[0].rgb, generate(other, request, 0).pictures[0].rgb);
}

TEST_F(OnCudaTest, MatricesInTheOrderOfTheCpusKernelsAreUnpacked) {
  constexpr double kMostError = 0.05;  // of 8 bits, in groups of 384
  quantize({.source = kTiny, .output = at("model"), .format = "int8", .layout = "cpu"});
  EngineOptions laid_out = options();
  laid_out.model = at("model");
  std::vector<Tensor> latents;
  for (const EngineOptions& o : {options(), laid_out}) {
    Request request = small_request();
    request.save_latents = at("latents.safetensors");
    const Result result = Engine::open(o).generate(request);
    EXPECT_EQ(testing::Matches(Contains(HasSubstr("unpacked to bf16")))(result.notes), o.model == at("model"));
    latents.push_back(to_f32(read_safetensors(request.save_latents).tensors.at("latents").data));
  }
  EXPECT_LT(latents_error(latents[1], latents[0]), kMostError);
}

TEST_F(OnCudaTest, StreamedItDrawsTheSamePicture) { expect_same_picture_streamed(options()); }

/// The same picture twice from one engine and once from another, as near to that of f32 as rounding leaves it.
void expect_same_picture_near_f32(const EngineOptions& rounded, const std::string& arithmetic, double least_db,
                                  const Request& request = small_request()) {
  EngineOptions in_f32 = rounded;
  in_f32.arithmetic = Arithmetic::f32;
  in_f32.held_as = HeldAs::f32;
  Engine first = Engine::open(rounded), second = Engine::open(rounded), exact = Engine::open(in_f32);
  const Result a = first.generate(request);
  EXPECT_EQ(a.pictures[0].rgb, first.generate(request).pictures[0].rgb);
  EXPECT_EQ(a.pictures[0].rgb, second.generate(request).pictures[0].rgb);
  EXPECT_THAT(a.pictures[0].metadata, HasSubstr(fmt::format(R"("arithmetic":"{}")", arithmetic)));
  const std::vector<uint8_t> expected = exact.generate(request).pictures[0].rgb;
  EXPECT_NE(a.pictures[0].rgb, expected);
  EXPECT_GT(decibels(a.pictures[0].rgb, expected), least_db);
}

/// A picture drawn by the kernels that every GPU can run, and by those that this one takes. On an H200 they were 60.8
/// dB alike in bf16, 45.5 in FP8 and 71.3 in int8; the bounds leave some 7 to 16 of that to other versions and cards.
void expect_alike_by_ampere_kernels(const EngineOptions& options, CudaArithmetic arithmetic, double least_db) {
  std::optional<Session> session;
  session.emplace(options, [&](Kernels&) {
    return std::make_unique<ByAmpereKernels>(arithmetic, [&]() -> Device& { return session->machine().device(); });
  });
  const std::vector<uint8_t> picture = generate(*session, large_request(), 0).pictures[0].rgb;
  const double alike = decibels(picture, Engine::open(options).generate(large_request()).pictures[0].rgb);
  EXPECT_GT(alike, least_db);
  ::testing::Test::RecordProperty("decibels", fmt::format("{:.1f}", alike));
}

TEST_F(OnCudaTest, TheKernelsOfEveryGpuDrawAnAlikePicture) {
  expect_alike_by_ampere_kernels(options(), CudaArithmetic::bf16, 50);
}

TEST_F(OnCudaTest, AGpuWithoutProductsOfEightBitFloatsSaysSo) {
  if (why_no_fp8().empty()) GTEST_SKIP() << "this one has them";
  for (const Arithmetic arithmetic : {Arithmetic::fp8, Arithmetic::fp8_all})
    EXPECT_THAT(open_error(options({.arithmetic = arithmetic})),
                AllOf(StartsWith("arithmetic fp8"), HasSubstr(": cuda:0: "),
                      HasSubstr(" has no such products with this cuBLASLt; "),
                      HasSubstr("; arithmetic int8 works on every device")));
}

class Fp8OnCudaTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (const std::string reason = why_no_fp8(); !reason.empty()) GTEST_SKIP() << reason;
  }
  static EngineOptions fp8() { return options({.arithmetic = Arithmetic::fp8}); }
  static EngineOptions fp8_all() { return options({.arithmetic = Arithmetic::fp8_all}); }
};

TEST_F(Fp8OnCudaTest, TheSameSeedGivesTheSamePictureCloseToThatOfF32) {
  expect_same_picture_near_f32(fp8(), "fp8", 25);
}

TEST_F(Fp8OnCudaTest, TwoEnginesStreamTheirBlocksOnOneGpuAtTheSameTime) {
  const EngineOptions streamed = with_streamed_blocks(fp8(), replayed_request());
  expect_same_pictures_at_once({streamed, streamed}, replayed_request());
}

TEST_F(Fp8OnCudaTest, OneEngineReplaysWhileTheOtherStreamsItsBlocks) {
  expect_same_pictures_at_once({fp8(), with_streamed_blocks(fp8(), replayed_request())}, replayed_request());
}

TEST_F(Fp8OnCudaTest, SeveralPicturesAreLikeThoseOfSingleRuns) { expect_like_single_runs(fp8()); }

TEST_F(Fp8OnCudaTest, SoAreLargePictures) {
  expect_same_picture_near_f32(fp8(), "fp8", 25, large_request());
  expect_like_single_runs(fp8(), large_request());
}

TEST_F(Fp8OnCudaTest, TheKernelsOfEveryGpuDrawAnAlikePicture) {
  expect_alike_by_ampere_kernels(fp8(), CudaArithmetic::fp8, 38);
}

TEST_F(Fp8OnCudaTest, RoundedWeightsArePlannedFor) {
  Engine engine = Engine::open(fp8()), exact = Engine::open(options({.held_as = HeldAs::f32}));
  EXPECT_LT(engine.plan(small_request()).needed_bytes + (size_t{8} << 20), exact.plan(small_request()).needed_bytes);
}

TEST_F(Fp8OnCudaTest, WhereverItsBlocksAreTheTransformerGivesTheSame) {
  expect_same_latents_wherever_blocks_are(fp8());
}

TEST_F(Fp8OnCudaTest, StreamedItDrawsTheSamePicture) { expect_same_picture_streamed(fp8()); }

// The small model's heads are 64 wide, so that its attention stays in bf16 at every length. What fp8_all makes of heads
// of 128 is told by the tests of ops and of blocks of full width.
TEST_F(Fp8OnCudaTest, NarrowHeadsHaveTheAttentionOfFp8WhereAllIsAskedFor) {
  EXPECT_EQ(Engine::open(fp8_all()).generate(long_request()).pictures[0].rgb,
            Engine::open(fp8()).generate(long_request()).pictures[0].rgb);
}

class Int8OnCudaTest : public OnCudaTest {
 protected:
  static EngineOptions int8() { return options({.arithmetic = Arithmetic::int8}); }
};

TEST_F(Int8OnCudaTest, TheSameSeedGivesTheSamePictureCloseToThatOfF32) {
  expect_same_picture_near_f32(int8(), "int8", 30);
}

TEST_F(Int8OnCudaTest, SeveralPicturesAreLikeThoseOfSingleRuns) { expect_like_single_runs(int8()); }

TEST_F(Int8OnCudaTest, TheKernelsOfEveryGpuDrawAnAlikePicture) {
  expect_alike_by_ampere_kernels(int8(), CudaArithmetic::int8, 55);
}

TEST_F(Int8OnCudaTest, WhereverItsBlocksAreTheTransformerGivesTheSame) {
  expect_same_latents_wherever_blocks_are(int8());
}

TEST_F(Int8OnCudaTest, StreamedItDrawsTheSamePicture) { expect_same_picture_streamed(int8()); }

TEST_F(OnCudaTest, ComparingFromTheGpuIsRefused) {
  EXPECT_THAT(open_error(options({.compare = DeviceKind::cpu})), HasSubstr("run on cpu and compare with cuda"));
}

}  // namespace
}  // namespace inkstone
