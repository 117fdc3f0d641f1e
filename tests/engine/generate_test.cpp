#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using nlohmann::json;

class GenerateTest : public TinyModelTest {
 protected:
  static Engine tiny(const EngineOptions& options = {}) {
    EngineOptions with_model = options;
    with_model.model = kTiny;
    return Engine::open(with_model);
  }

  /// The latents of a request, by way of a file.
  Tensor latents(Engine& engine, Request request) const {
    request.save_latents = at("latents.safetensors");
    engine.generate(request);
    const SafetensorsFile file = read_safetensors(request.save_latents);
    EXPECT_EQ(file.tensors.size(), 1u);
    return file.tensors.at("latents").data;
  }
};

/// Of all ops, by a profile's last line.
int64_t calls_in(const std::string& profile) {
  const std::string_view last_line = "all ops";
  return std::stoll(profile.substr(profile.find(last_line) + last_line.size()));
}

int greatest_difference(const Picture& a, const Picture& b) {
  EXPECT_EQ(a.rgb.size(), b.rgb.size());
  int most = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) most = std::max(most, std::abs(int{a.rgb[i]} - int{b.rgb[i]}));
  return most;
}

TEST_F(GenerateTest, GivesAPictureOfTheSizeAskedFor) {
  Request request = small_request();
  request.width = 96;
  const Result result = tiny().generate(request);
  ASSERT_EQ(result.pictures.size(), 1u);
  const Picture& picture = result.pictures.front();
  EXPECT_EQ(picture.width, 96);
  EXPECT_EQ(picture.height, 64);
  EXPECT_EQ(picture.rgb.size(), 96u * 64u * 3u);
  EXPECT_GT(result.peak_bytes, 0u);
  EXPECT_TRUE(result.profile.empty());
}

TEST_F(GenerateTest, DrawsWhatThePromptSays) {
  // In the middle of the picture; the background is another prompt's business.
  const Result result = tiny().generate({.prompt = "a large red circle on a white background", .steps = 4});
  const Picture& picture = result.pictures.front();
  ASSERT_EQ(picture.width, 256);  // of models/tiny/inkstone.json
  ASSERT_EQ(picture.height, 256);
  const uint8_t* middle = &picture.rgb[(128 * 256 + 128) * 3];
  EXPECT_GT(middle[0], 150);
  EXPECT_LT(middle[1], 100);
  EXPECT_LT(middle[2], 100);
}

TEST_F(GenerateTest, SameSeedGivesTheSameBits) {
  Engine engine = tiny();
  const Request request = small_request();
  const Result first = engine.generate(request);
  EXPECT_EQ(first.pictures[0].rgb, engine.generate(request).pictures[0].rgb);  // with the prompt from the cache
  engine.generate(small_request("something else"));
  EXPECT_EQ(first.pictures[0].rgb, engine.generate(request).pictures[0].rgb);
  EXPECT_EQ(first.pictures[0].rgb, tiny().generate(request).pictures[0].rgb);
}

TEST_F(GenerateTest, AnotherSeedGivesAnotherPicture) {
  Engine engine = tiny();
  Request request = small_request();
  const Tensor first = latents(engine, request);
  request.seed = 1;
  EXPECT_GT(latents_error(first, latents(engine, request)), 0.1);
}

TEST_F(GenerateTest, PicturesOfACountAreThoseOfTheirSeeds) {
  Engine engine = tiny();
  Request request = small_request();
  request.seed = 5;
  request.count = 2;
  const Tensor both = latents(engine, request);
  const Result together = engine.generate(request);
  ASSERT_EQ(together.pictures.size(), 2u);
  request.count = 1;
  for (int64_t i = 0; i < 2; ++i) {
    const auto seed = 5u + static_cast<uint64_t>(i);
    request.seed = seed;
    EXPECT_EQ(together.pictures[static_cast<size_t>(i)].seed, seed);
    EXPECT_LT(latents_error(both.rows(i, i + 1), latents(engine, request)), 1e-5);
    const Result alone = engine.generate(request);
    EXPECT_LE(greatest_difference(together.pictures[static_cast<size_t>(i)], alone.pictures[0]), 1);
  }
}

TEST_F(GenerateTest, NoiseOfAFileReplacesTheSeeds) {
  Engine engine = tiny();
  Request request = small_request();
  // With one huge number in it, which the seed's noise has not, the latents must move.
  Tensor noise = host_tensor({1, 16, 8, 8}, DType::f32);
  std::ranges::fill(noise.span<float>(), 0.25f);
  write_safetensors(at("noise.safetensors"), {{"noise", noise}});
  const Tensor of_seed = latents(engine, request);
  request.noise = at("noise.safetensors");
  const Tensor of_file = latents(engine, request);
  EXPECT_EQ(of_file.shape(), (Shape{1, 16, 8, 8}));
  EXPECT_GT(latents_error(of_file, of_seed), 0.1);
  EXPECT_EQ(latents_error(of_file, latents(engine, request)), 0);
}

TEST_F(GenerateTest, GuidesWithASingleSpaceUnlessTold) {
  Engine engine = tiny();
  Request request = small_request();
  const Tensor silent = latents(engine, request);
  request.negative_prompt = " ";
  EXPECT_EQ(latents_error(latents(engine, request), silent), 0);
  request.negative_prompt = "blue";
  EXPECT_GT(latents_error(latents(engine, request), silent), 1e-3);
}

TEST_F(GenerateTest, CfgOfOneRunsOnePass) {
  Engine engine = tiny({.profile = true});
  Request request = small_request();
  request.cfg = 1;
  request.negative_prompt = "blue";
  const Result one = engine.generate(request);
  EXPECT_EQ(one.profile.find("guided_step"), std::string::npos) << one.profile;
  EXPECT_THAT(one.notes, ::testing::ElementsAre(::testing::HasSubstr("the negative prompt has no effect")));
  request.cfg = 1.5;
  EXPECT_NE(engine.generate(request).profile.find("guided_step"), std::string::npos);
}

TEST_F(GenerateTest, TellsStagesAndStepsInOrder) {
  Engine engine = tiny();
  Request request = small_request();
  request.count = 2;
  request.save_latents = at("latents.safetensors");
  std::vector<std::pair<Stage, int64_t>> told;
  request.progress = [&](const Progress& p) {
    told.emplace_back(p.stage, p.step);
    EXPECT_LE(p.step, p.steps);
    EXPECT_GT(p.memory_bytes, 0u);
    EXPECT_EQ(p.seconds_per_step > 0, p.step > 0);
    EXPECT_EQ(p.seconds_left > 0, p.step > 0 && p.step < p.steps);
  };
  const Result result = engine.generate(request);
  using enum Stage;
  std::vector<std::pair<Stage, int64_t>> expected = {{load, 0}, {load, 1}};
  for (int64_t layer = 0; layer <= 2 * 4; ++layer) expected.emplace_back(encode, layer);  // of two prompts
  for (const Stage stage : {load, denoise, decode, write})
    for (int64_t step = 0; step <= (stage == denoise || stage == decode ? 2 : 1); ++step)
      expected.emplace_back(stage, step);
  EXPECT_EQ(told, expected);
  std::vector<Stage> stages;
  for (const StageTime& time : result.times) {
    stages.push_back(time.stage);
    EXPECT_GT(time.seconds, 0) << name_of(time.stage);
  }
  EXPECT_THAT(stages, ::testing::ElementsAre(load, encode, denoise, decode, write));
}

TEST_F(GenerateTest, StopsWithinAStepAndLeavesNoFile) {
  Engine engine = tiny();
  Request request = small_request();
  request.save_latents = at("latents.safetensors");
  const Result whole = engine.generate(small_request());
  for (const Stage stage : {Stage::load, Stage::encode, Stage::denoise, Stage::decode}) {
    std::stop_source source;
    int64_t steps_after = 0;
    request.stop = source.get_token();
    request.progress = [&](const Progress& p) {
      if (source.stop_requested()) ++steps_after;
      if (p.stage == stage && p.step == 0) source.request_stop();
    };
    EXPECT_THROW(engine.generate(request), Cancelled) << name_of(stage);
    const bool within_a_step = stage == Stage::denoise || stage == Stage::decode;
    EXPECT_TRUE(!within_a_step || steps_after == 0) << name_of(stage);
    EXPECT_EQ(files_in_folder(), 0u);
  }
  EXPECT_EQ(engine.generate(small_request()).pictures[0].rgb, whole.pictures[0].rgb);  // none the worse for it
  EXPECT_GT(engine.encode({.prompt = "still here"}).rows, 0);
}

/// A stop request comes from another thread at any time, mostly in the middle of an op.
TEST_F(GenerateTest, StoppedAnywhereItDrawsTheSamePictureAgain) {
  Engine engine = tiny({.profile = true});
  engine.generate(small_request());  // the prompts are encoded once
  const Result whole = engine.generate(small_request());
  for (const int milliseconds : {0, 1, 2, 3, 5, 8, 13, 21, 34, 55}) {
    std::stop_source source;
    std::promise<void> begun;
    Request request = small_request("a blue square");
    request.steps = 1000;
    request.stop = source.get_token();
    request.progress = [&](const Progress& p) {
      if (p.stage == Stage::denoise && p.step == 0) begun.set_value();
    };
    const std::jthread other([&] {
      begun.get_future().wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      source.request_stop();
    });
    EXPECT_THROW(engine.generate(request), Cancelled);
    const Result again = engine.generate(small_request());
    EXPECT_EQ(again.pictures[0].rgb, whole.pictures[0].rgb) << milliseconds;
    EXPECT_EQ(calls_in(again.profile), calls_in(whole.profile)) << "counts what was stopped";
  }
}

TEST_F(GenerateTest, MetadataSaysWhatMadeThePicture) {
  Engine engine = tiny();
  Request request = small_request("ein \"Bär\"\n熊");
  request.seed = UINT64_MAX - 1;
  request.cfg = 2.5;
  request.count = 2;
  request.max_sequence_length = 300;
  const Result result = engine.generate(request);
  const json data = json::parse(result.pictures[0].metadata);
  EXPECT_EQ(data.at("prompt"), request.prompt);
  EXPECT_EQ(data.at("negative_prompt"), " ");
  EXPECT_EQ(data.at("seed"), UINT64_MAX - 1);
  EXPECT_EQ(data.at("steps"), 2);
  EXPECT_EQ(data.at("cfg"), 2.5);
  EXPECT_EQ(data.at("width"), 64);
  EXPECT_EQ(data.at("height"), 64);
  EXPECT_EQ(data.at("model"), "tiny");
  EXPECT_EQ(data.at("dtype"), "stored");
  EXPECT_EQ(data.at("device"), "cpu");
  EXPECT_EQ(data.at("max_sequence_length"), 300);
  EXPECT_EQ(data.at("versions").at("inkstone"), version());
  EXPECT_EQ(json::parse(result.pictures[1].metadata).at("seed"), UINT64_MAX);
}

TEST_F(GenerateTest, SaysWhenAPictureWasMadeWithAnotherModel) {
  const fs::path model = linked_model();
  const Result first = tiny().generate(small_request());
  Request request = small_request();
  request.model_fingerprint = json::parse(first.pictures[0].metadata).at("fingerprint");
  EXPECT_THAT(Engine::open({.model = model}).generate(request).notes, ::testing::IsEmpty()) << "a copy is the same";
  own(model, "vae");
  change_tensors(model / "vae", [](auto& tensors) {
    Tensor& bias = tensors.at("decoder.conv_out.bias");
    bias = host_tensor(bias.shape(), bias.dtype());
    std::fill_n(bias.template data<char>(), bias.bytes(), 0);
  });
  EXPECT_THAT(Engine::open({.model = model}).generate(request).notes,
              ::testing::ElementsAre(::testing::HasSubstr("another than the picture was made with")));
}

TEST_F(GenerateTest, SaysWhenItCutsAPrompt) {
  Engine engine = tiny();
  Request request = small_request(std::string(200, '7'));  // every digit is a token
  request.max_sequence_length = 100;
  EXPECT_THAT(engine.generate(request).notes, ::testing::ElementsAre("the prompt was cut to 100 tokens"));
  const Embeddings cut = engine.encode({.prompt = request.prompt, .max_sequence_length = 100});
  EXPECT_EQ(cut.rows, 100);
  EXPECT_THAT(cut.notes, ::testing::ElementsAre("the prompt was cut to 100 tokens"));
  EXPECT_EQ(engine.encode({.prompt = request.prompt}).rows, 205);
}

TEST_F(GenerateTest, WeightsHeldAsF32AreTheSameWeights) {
  Engine stored = tiny();
  Engine wide = tiny({.held_as = HeldAs::f32});
  EXPECT_LT(latents_error(latents(wide, small_request()), latents(stored, small_request())), 1e-5);
}

TEST_F(GenerateTest, ProfileCountsEveryOp) {
  const Result result = tiny({.profile = true}).generate(small_request());
  for (const char* op : {"linear", "attention", "conv2d", "guided_step", "to_rgb8", "all ops"})
    EXPECT_NE(result.profile.find(op), std::string::npos) << op;
}

TEST_F(GenerateTest, CompareFindsTheCpuEqualToTheReference) {
  Request request = small_request();
  request.width = request.height = 32;
  const Result result = tiny({.compare = DeviceKind::reference}).generate(request);
  EXPECT_EQ(result.pictures.size(), 1u);
  EXPECT_THAT(result.notes, ::testing::ElementsAre(::testing::HasSubstr("calls agree with the reference device")));
}

TEST_F(GenerateTest, ReferenceDeviceDrawsTheSamePicture) {
  Request request = small_request();
  request.width = request.height = 32;
  Engine cpu = tiny(), reference = tiny({.device = DeviceKind::reference});
  EXPECT_LT(latents_error(latents(cpu, request), latents(reference, request)), 1e-5);
  EXPECT_LE(greatest_difference(cpu.generate(request).pictures[0], reference.generate(request).pictures[0]), 1);
}

TEST_F(GenerateTest, TwoEnginesDoNotDisturbEachOther) {
  Engine first = tiny({.threads = 1}), second = tiny({.threads = 1});
  const Result a = first.generate(small_request("a red circle"));
  const Result b = second.generate(small_request("a blue square"));
  Result c, d;
  std::thread other([&] { c = first.generate(small_request("a red circle")); });
  d = second.generate(small_request("a blue square"));
  other.join();
  EXPECT_EQ(a.pictures[0].rgb, c.pictures[0].rgb);
  EXPECT_EQ(b.pictures[0].rgb, d.pictures[0].rgb);
}

TEST_F(GenerateTest, EngineCanBeMoved) {
  Engine engine = tiny();
  Engine moved = std::move(engine);
  EXPECT_EQ(moved.generate(small_request()).pictures.size(), 1u);
  EXPECT_THAT(moved.describe(),
              ::testing::Contains(::testing::AllOf(::testing::HasSubstr("transformer: "), ::testing::HasSubstr("bf16"),
                                                   ::testing::HasSubstr("10.9 M parameters"))));
}

}  // namespace
}  // namespace inkstone
