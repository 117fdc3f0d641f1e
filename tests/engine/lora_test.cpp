#include <nlohmann/json.hpp>

#include "inkstone/quantize.h"

#include "engine/bound_memory.h"
#include "engine/tiny_model.h"
#include "io/lora_files.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class LoraEngineTest : public TinyModelTest {
 protected:
  /// A file of one layer of models/tiny, changed along one direction by `size`.
  fs::path lora(const std::string& name, float size, const std::map<std::string, Tensor>& more = {},
                int64_t rank = 1) const {
    std::map<std::string, Tensor> tensors = more;
    const auto each = static_cast<float>(rank);
    add_pair(tensors, kLoraSpellings[6], kLayer,
             {filled({rank, shape()[1]}, 1), filled({shape()[0], rank}, size / each), each});
    write_safetensors(at(name), tensors);
    return at(name);
  }

  static Picture draw(const EngineOptions& options, const Request& request = small_request()) {
    return Engine::open(options).generate(request).pictures.front();
  }

  static EngineOptions with(const std::vector<LoraOption>& loras) { return {.model = kTiny, .loras = loras}; }

  /// Of the changed layer.
  static Shape shape() {
    static const Checkpoint files = open_checkpoint(kTiny / "transformer", Component::transformer);
    return *files.shape_of(std::string(kLayer) + ".weight");
  }

 private:
  static constexpr const char* kLayer = "transformer_blocks.1.img_mlp.net.2";

  static Tensor filled(const Shape& shape, float value) {
    const Tensor t = host_tensor(shape, DType::f32);
    std::ranges::fill(t.span<float>(), value);
    return t;
  }
};

TEST_F(LoraEngineTest, ChangesThePictureByItsScale) {
  const fs::path file = lora("a.safetensors", 0.02f);
  const auto plain = draw(with({})).rgb;
  EXPECT_NE(draw(with({{file, std::nullopt}})).rgb, plain);
  EXPECT_EQ(draw(with({{file, 1}})).rgb, draw(with({{file, std::nullopt}})).rgb);
  EXPECT_EQ(draw(with({{file, 0}})).rgb, plain);
  EXPECT_NE(draw(with({{file, 0.5}})).rgb, draw(with({{file, 1}})).rgb);
}

/// Mean absolute difference of two pictures' bytes.
double difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(int{a[i]} - int{b[i]});
  return sum / static_cast<double>(a.size());
}

TEST_F(LoraEngineTest, ChangesThePictureInEightBitsAsItDoesInF32) {
  EngineOptions options = with({{lora("a.safetensors", 2, {}, 20), 1}});
  const auto plain = draw(with({})).rgb, exact = draw(options).rgb;
  options.arithmetic = Arithmetic::int8;
  ASSERT_GT(difference(plain, exact), 1);
  EXPECT_LT(difference(draw(options).rgb, exact), 0.2 * difference(plain, exact));
}

TEST_F(LoraEngineTest, ChangesThePictureOnAGpuAsItDoesOnTheCpu) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  EngineOptions options = with({{lora("a.safetensors", 2, {}, 20), 1}});
  const auto plain = draw(with({})).rgb, exact = draw(options).rgb;
  options.device = DeviceKind::cuda;
  options.held_as = HeldAs::f32;
  EXPECT_LT(difference(draw(options).rgb, exact), 0.01);
  options.held_as = HeldAs::stored;
  EXPECT_LT(difference(draw(options).rgb, exact), 0.1 * difference(plain, exact));
  if (!why_no_fp8().empty()) GTEST_SKIP() << why_no_fp8();
  options.arithmetic = Arithmetic::fp8;
  EXPECT_LT(difference(draw(options).rgb, exact), 0.3 * difference(plain, exact));
}

TEST_F(LoraEngineTest, TakesNoMemoryOfAGpuOnceItIsInTheWeights) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  constexpr int64_t kRank = 1024;
  const auto numbers = static_cast<uint64_t>(kRank * (shape()[0] + shape()[1]));
  EngineOptions plain = with({}), changed = with({{lora("a.safetensors", 0.02f, {}, kRank), 1}});
  plain.device = changed.device = DeviceKind::cuda;
  const auto need = [](const EngineOptions& o) { return Engine::open(o).plan(small_request()).stages[1].own_bytes; };
  EXPECT_LT(need(changed), need(plain) + numbers * sizeof(float) / 2);
}

TEST_F(LoraEngineTest, ChangesThePictureOfWeightsInFewBitsOnAGpu) {
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda();
  quantize({.source = kTiny, .output = at("int8"), .format = "int8"});
  EngineOptions changed = {.model = at("int8"), .device = DeviceKind::cuda};
  const auto plain = draw(changed).rgb;
  changed.loras = {{lora("a.safetensors", 2, {}, 20), 1}};
  Engine ample = Engine::open(changed);
  const Plan plan = ample.plan(small_request());
  EXPECT_TRUE(plan.lora_widens);
  const auto wide = ample.generate(small_request()).pictures[0].rgb;
  changed.memory_limit = plan.needed_bytes - 1;
  EXPECT_FALSE(Engine::open(changed).plan(small_request()).lora_widens);
  ASSERT_GT(difference(plain, wide), 1);
  EXPECT_LT(difference(draw(changed).rgb, wide), 0.1 * difference(plain, wide));
}

TEST_F(LoraEngineTest, SaysThatWeightsInFp8AreNotRoundedAgainByAGpu) {
  if (!why_no_fp8().empty()) GTEST_SKIP() << why_no_fp8();
  quantize({.source = kTiny, .output = at("fp8"), .format = "fp8"});
  const EngineOptions options = {.model = at("fp8"),
                                 .loras = {{lora("a.safetensors", 0.02f), 1}},
                                 .device = DeviceKind::cuda,
                                 .arithmetic = Arithmetic::fp8};
  EXPECT_THAT(Engine::open(options).generate(small_request()).notes, Contains(HasSubstr("multiplied in bf16")));
}

TEST_F(LoraEngineTest, IsStreamedWithItsBlockAndCounted) {
  INKSTONE_BOUND_MEMORY();
  constexpr int64_t kRank = 1024;
  const auto bytes = static_cast<double>(kRank * (shape()[0] + shape()[1])) * sizeof(float);
  EngineOptions options = with({{lora("a.safetensors", 0.02f, {}, kRank), 1}});
  options.threads = 2;
  const Request request = small_request();
  const auto expected = draw(options, request).rgb;
  const Plan without = Engine::open({.model = kTiny, .threads = 2}).plan(request);
  const Plan plan = Engine::open(options).plan(request);
  const auto need = [](const Plan& p) { return static_cast<double>(p.stages[1].own_bytes + p.stages[1].mapped_bytes); };
  EXPECT_GT(need(plan), need(without) + bytes);
  EXPECT_FALSE(plan.transformer_streamed);

  constexpr size_t kStep = size_t{1} << 18;
  bool streamed = false;
  for (size_t less = 0; !streamed && less < static_cast<size_t>(bytes); less += kStep) {
    const auto bound = engine_with_less_memory(options, request, less);
    if (!bound || !bound->plan(request).transformer_streamed) continue;
    streamed = true;
    EXPECT_EQ(bound->generate(request).pictures.front().rgb, expected);
  }
  EXPECT_TRUE(streamed);
}

TEST_F(LoraEngineTest, SeveralAddUp) {
  const fs::path a = lora("a.safetensors", 0.02f), b = lora("b.safetensors", 0.01f);
  EXPECT_EQ(draw(with({{a, 1}, {b, -2}})).rgb, draw(with({})).rgb);
}

TEST_F(LoraEngineTest, WeightsThatAreConvertedKeepThem) {
  EngineOptions options = with({{lora("a.safetensors", 0.02f), 1}});
  const auto stored = draw(options).rgb;
  options.held_as = HeldAs::f32;
  EXPECT_EQ(draw(options).rgb, stored);
}

TEST_F(LoraEngineTest, IsDescribed) {
  const Engine engine = Engine::open(with({{lora("a.safetensors", 1), 0.5}}));
  EXPECT_THAT(Engine::open(with({{at("a.safetensors"), 0.5}})).describe(),
              Contains(AllOf(HasSubstr("lora: "), HasSubstr("a.safetensors, bare's spelling, 1 layers of rank 1"),
                             HasSubstr("scale 0.5"))));
}

TEST_F(LoraEngineTest, StaysWithThePicture) {
  const fs::path file = lora("a.safetensors", 0.02f);
  Request request = small_request();
  request.preset = Preset::lightning_4;
  request.steps = 2;
  const Picture picture = draw(with({{file, 0.5}}), request);
  const json metadata = json::parse(picture.metadata);
  EXPECT_EQ(metadata.at("loras"), json::parse(R"([{"name": "a.safetensors", "scale": 0.5}])"));
  EXPECT_EQ(metadata.at("preset"), "lightning-4");

  save_picture(at("p.png"), picture);
  EngineOptions none = with({});
  EXPECT_THAT(error_of([&] { request_like(at("p.png"), none); }),
              AllOf(HasSubstr("p.png"), HasSubstr("a.safetensors")));
  EngineOptions same = with({{file, std::nullopt}});
  const Request like = request_like(at("p.png"), same);
  EXPECT_EQ(draw(same, like).metadata, picture.metadata);
  EXPECT_EQ(draw(same, like).rgb, picture.rgb);
  EngineOptions other = with({{file, 0.25}});
  request_like(at("p.png"), other);
  EXPECT_EQ(other.loras.front().scale, 0.25);
}

TEST_F(LoraEngineTest, PresetsChooseStepsCfgAndSchedule) {
  for (const auto& [preset, steps] : {std::pair(Preset::lightning_4, 4), {Preset::lightning_8, 8}}) {
    const Request request = {.prompt = "a star", .preset = preset, .width = 64, .height = 64};
    const json metadata = json::parse(draw(with({}), request).metadata);
    EXPECT_EQ(metadata.at("steps"), steps);
    EXPECT_EQ(metadata.at("cfg"), 1);
  }
  Request plain = small_request();
  plain.cfg = 1;
  Request preset = plain;
  preset.preset = Preset::lightning_4;
  EXPECT_NE(draw(with({}), plain).rgb, draw(with({}), preset).rgb) << "the same steps at other sigmas";
}

TEST_F(LoraEngineTest, LeavesOutWhatMatchesNothingWhenItMay) {
  EngineOptions options = with({{lora("a.safetensors", 0.02f, {{"clip.alpha", counting({1})}}), 1}});
  EXPECT_THAT(open_error(options), AllOf(HasSubstr("a.safetensors: 1 of its tensors"), HasSubstr("clip.alpha")));
  options.lora_partial = true;
  EXPECT_THAT(Engine::open(options).generate(small_request()).notes,
              Contains(AllOf(HasSubstr("WARNING"), HasSubstr("a.safetensors"), HasSubstr("clip.alpha"))));
}

TEST_F(LoraEngineTest, FaultsAreNamed) {
  EXPECT_THAT(open_error(with({{at("nowhere.safetensors"), 1}})), HasSubstr("nowhere.safetensors"));
  const fs::path file = lora("a.safetensors", 1);
  EXPECT_THAT(open_error(with({{file, 1e9}})), AllOf(HasSubstr("a.safetensors"), HasSubstr("-100 to 100 work")));
  EXPECT_THAT(open_error(with({{file, NAN}})), AllOf(HasSubstr("a.safetensors"), HasSubstr("-100 to 100 work")));

  const fs::path broken = lora("broken.safetensors", NAN);
  EXPECT_THAT(error_of([&] {
                draw(with({{broken, 1}}));
              }),
              AllOf(HasSubstr("broken.safetensors"), HasSubstr("lora_up.weight"), HasSubstr("nan")));
}

}  // namespace
}  // namespace inkstone
