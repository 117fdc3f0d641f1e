#include <nlohmann/json.hpp>

#include "engine/tiny_model.h"
#include "io/lora_files.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class LoraEngineTest : public TinyModelTest {
 protected:
  /// A file of one layer of models/tiny, changed along one direction by `size`.
  fs::path lora(const std::string& name, float size, const std::map<std::string, Tensor>& more = {}) const {
    std::map<std::string, Tensor> tensors = more;
    add_pair(tensors, kLoraSpellings[6], kLayer, {filled({1, shape()[1]}, 1), filled({shape()[0], 1}, size), 1.0f});
    write_safetensors(at(name), tensors);
    return at(name);
  }

  static Picture draw(const EngineOptions& options, const Request& request = small_request()) {
    return Engine::open(options).generate(request).pictures.front();
  }

  static EngineOptions with(const std::vector<LoraOption>& loras) { return {.model = kTiny, .loras = loras}; }

 private:
  static constexpr const char* kLayer = "transformer_blocks.1.img_mlp.net.2";

  static Shape shape() {
    static const Checkpoint files = open_checkpoint(kTiny / "transformer", Component::transformer);
    return *files.shape_of(std::string(kLayer) + ".weight");
  }

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
