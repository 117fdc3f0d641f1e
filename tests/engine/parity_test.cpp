// Whole runs through the public API against diffusers' own pipeline: prompt and seed in, latents and picture out.
#include <fmt/format.h>
#include <optional>

#include "inkstone/inkstone.h"

#include "cuda/cuda_device.h"
#include "expected.h"
#include "io/files.h"
#include "io/image.h"

namespace inkstone {
namespace {

struct RunCase {
  const char* model;
  DeviceKind device;
  HeldAs held_as;
};

std::string name_of(const RunCase& c) {
  const char* device = c.device == DeviceKind::cpu ? "cpu" : c.device == DeviceKind::cuda ? "cuda" : "reference";
  return fmt::format("{}_{}{}", device, c.model, c.held_as == HeldAs::f32 ? "_f32" : "");
}

class EngineParityTest : public FolderTest, public ::testing::WithParamInterface<RunCase> {
 protected:
  EngineParityTest() : expected_(GetParam().model) {}

  void SetUp() override {
    if (GetParam().device == DeviceKind::cuda && !why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
    engine_ = Engine::open(options());
  }

  /// Products have bf16 operands.
  static bool is_narrow() { return GetParam().device == DeviceKind::cuda && GetParam().held_as != HeldAs::f32; }

  static EngineOptions options() {
    const RunCase& c = GetParam();
    EngineOptions o = {.model = test_model(c.model), .device = c.device, .held_as = c.held_as, .threads = 2};
    if (c.model == std::string("random_mlx")) o.tokenizer = test_model("random_a") / "tokenizer";  // it has none
    return o;
  }

  static Request request_of(const nlohmann::json& run) {
    Request r = {.prompt = run.at("prompt"), .cfg = run.at("cfg"), .steps = run.at("steps")};
    if (!run.at("negative_prompt").is_null()) r.negative_prompt = run.at("negative_prompt");
    r.width = run.at("width").get<int64_t>();
    r.height = run.at("height").get<int64_t>();
    r.seed = run.at("seeds")[0];
    r.count = static_cast<int64_t>(run.at("seeds").size());
    return r;
  }

  void expect_latents(const Tensor& latents, const std::string& run) {
    const Tensor expected = expected_[run + ".latents"];
    ASSERT_EQ(latents.shape(), expected.shape());
    record(relative_error(latents, expected));
  }

  void expect_picture(const Picture& picture, const std::string& file) const {
    const Image expected = read_image(test_data() / "expected" / file);
    ASSERT_EQ(picture.width, expected.width);
    ASSERT_EQ(picture.height, expected.height);
    if (is_narrow()) return expect_like_picture(picture.rgb, expected.rgb);
    expect_same_picture(picture.rgb, expected.rgb);
  }

  /// Draws a recorded run and compares latents and pictures.
  void expect_run(const std::string& run, Request request) {
    SCOPED_TRACE(run);
    request.save_latents = at("latents.safetensors");
    const Result result = engine_->generate(request);
    expect_latents(read_safetensors(request.save_latents).tensors.at("latents").data, run);
    ASSERT_EQ(static_cast<int64_t>(result.pictures.size()), request.count);
    for (size_t i = 0; i < result.pictures.size(); ++i)
      expect_picture(result.pictures[i], fmt::format("{}.{}.{}.png", GetParam().model, run, i));
  }

  void record(double error) { errors_.expect_within(error, is_narrow() ? kNarrowRunTolerance : kRunTolerance); }

  Expected expected_;
  std::optional<Engine> engine_;

 private:
  ErrorLog errors_;
};

Tensor as_tensor(const Embeddings& e) { return host_tensor(e.values).reshape({e.rows, e.width}); }

TEST_P(EngineParityTest, EmbeddingsOfPrompts) {
  for (const auto& prompt : expected_.cases("prompts")) {
    const std::string text = prompt.at("prompt");
    SCOPED_TRACE(text);
    const Tensor expected = expected_["embeds." + prompt.at("name").get<std::string>()];
    const Embeddings embeddings = engine_->encode({.prompt = text});
    ASSERT_EQ(Shape({embeddings.rows, embeddings.width}), expected.shape());
    record(relative_error(as_tensor(embeddings), expected));

    const int64_t limit = expected.dim(0) - 2;
    const Embeddings cut = engine_->encode({.prompt = text, .max_sequence_length = limit});
    ASSERT_EQ(cut.rows, limit);
    record(relative_error(as_tensor(cut), expected.rows(0, limit)));
  }
}

TEST_P(EngineParityTest, LatentsAndPicturesOfRuns) {
  for (const auto& run : expected_.cases("runs")) expect_run(run.at("name"), request_of(run));
}

class EngineNoiseTest : public EngineParityTest {};

TEST_P(EngineNoiseTest, NoiseFromAFileReplacesTheSeed) {
  int recorded = 0;
  for (const auto& run : expected_.cases("runs")) {
    if (!run.at("detailed").get<bool>()) continue;
    ++recorded;
    const std::string name = run.at("name");
    Request request = request_of(run);
    request.seed += 1;
    request.noise = at("noise.safetensors");
    write_safetensors(request.noise, {{"noise", expected_[name + ".noise"]}});
    expect_run(name, request);
  }
  EXPECT_GT(recorded, 0);
}

std::vector<RunCase> random_models() {
  std::vector<RunCase> cases;
  for (const DeviceKind device : {DeviceKind::reference, DeviceKind::cpu, DeviceKind::cuda})
    for (const char* model : {"random_a", "random_b", "random_mlx"})
      for (const HeldAs held : {HeldAs::stored, HeldAs::f32}) cases.push_back({model, device, held});
  return cases;
}

constexpr auto kName = [](const auto& test) { return name_of(test.param); };

INSTANTIATE_TEST_SUITE_P(Random, EngineParityTest, ::testing::ValuesIn(random_models()), kName);
INSTANTIATE_TEST_SUITE_P(Random, EngineNoiseTest, ::testing::ValuesIn(random_models()), kName);
INSTANTIATE_TEST_SUITE_P(Shipped, EngineParityTest,
                         ::testing::Values(RunCase{"tiny", DeviceKind::cpu, HeldAs::stored},
                                           RunCase{"tiny", DeviceKind::cuda, HeldAs::f32},
                                           RunCase{"tiny", DeviceKind::cuda, HeldAs::stored}),
                         kName);

}  // namespace
}  // namespace inkstone
