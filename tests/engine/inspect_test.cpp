#include <nlohmann/json.hpp>

#include "engine/tiny_model.h"
#include "io/lora_files.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class InspectTest : public TinyModelTest {
 protected:
  static json inspect(const fs::path& path) { return json::parse(inspect_json(path)); }
};

TEST_F(InspectTest, ModelFolder) {
  const json found = inspect(kTiny);
  EXPECT_EQ(found.at("path"), kTiny.string());
  EXPECT_EQ(found.at("missing"), json::array());
  ASSERT_EQ(found.at("components").size(), 3u);
  const json& transformer = found.at("components")[0];
  EXPECT_EQ(transformer.at("component"), "transformer");
  EXPECT_EQ(transformer.at("format"), "bf16");
  EXPECT_EQ(transformer.at("scheme"), "diffusers");
  EXPECT_EQ(transformer.at("tensors"), 269);
  EXPECT_EQ(transformer.at("parameters"), 10'887'552);
  EXPECT_EQ(transformer.at("bytes"), 2 * 10'887'552);
  EXPECT_EQ(transformer.at("dtypes"), json({{"BF16", 269}}));
  EXPECT_EQ(transformer.at("config").at("layers"), 8);
  EXPECT_EQ(transformer.at("config").at("width"), 192);
  EXPECT_EQ(found.at("components")[1].at("config").at("vocabulary"), 1111);
  EXPECT_EQ(found.at("components")[2].at("config").at("scale"), 8);
  for (const json& component : found.at("components")) {
    EXPECT_EQ(component.at("missing"), json::array()) << component;
    EXPECT_EQ(component.at("surplus"), json::array()) << component;
    EXPECT_FALSE(component.contains("error")) << component;
  }
}

TEST_F(InspectTest, ComponentsAreKnownByTheirTensors) {
  for (const char* name : {"transformer", "text_encoder", "vae"}) {
    const json folder = inspect(kTiny / name);
    ASSERT_EQ(folder.at("components").size(), 1u);
    EXPECT_EQ(folder.at("components")[0].at("component"), name);
    for (const auto& entry : fs::directory_iterator(kTiny / name)) {
      if (entry.path().extension() != ".safetensors") continue;
      fs::copy(entry.path(), at("any.safetensors"), fs::copy_options::overwrite_existing);
      const json file = inspect(at("any.safetensors"));
      EXPECT_EQ(file.at("components")[0].at("component"), name);
      EXPECT_THAT(file.at("components")[0].at("missing"), ::testing::Contains("config.json"));
    }
  }
}

TEST_F(InspectTest, NamesEveryMissingAndSurplusTensor) {
  const fs::path model = linked_model();
  change_tensors(own(model, "vae"), [](auto& tensors) {
    tensors.erase("decoder.conv_in.bias");
    tensors.erase("encoder.conv_out.weight");
    tensors["extra"] = counting({1});
  });
  const json vae = inspect(model).at("components")[2];
  EXPECT_EQ(vae.at("missing"), json({"decoder.conv_in.bias", "encoder.conv_out.weight"}));
  EXPECT_EQ(vae.at("surplus"), json({"extra"}));
}

TEST_F(InspectTest, ToldWhatIsMissingOfAModel) {
  const fs::path model = linked_model();
  fs::remove(model / "vae");
  fs::remove(model / "tokenizer");
  const json found = inspect(model);
  EXPECT_EQ(found.at("missing"), json({"vae", "tokenizer"}));
  EXPECT_EQ(found.at("components").size(), 2u);
}

TEST_F(InspectTest, AnEmptyFolderIsMissingToo) {
  const fs::path model = linked_model();
  fs::remove(model / "vae");
  fs::create_directory(model / "vae");
  const json found = inspect(model);
  EXPECT_EQ(found.at("missing"), json({"vae"}));
  EXPECT_EQ(found.at("components").size(), 3u);
}

TEST_F(InspectTest, BrokenComponentDoesNotHideTheOthers) {
  const fs::path model = linked_model();
  own(model, "text_encoder");
  write("model/text_encoder/model.safetensors", "broken");
  const json found = inspect(model);
  ASSERT_EQ(found.at("components").size(), 3u);
  EXPECT_THAT(found.at("components")[1].at("error").get<std::string>(), HasSubstr("model.safetensors"));
  EXPECT_EQ(found.at("components")[1].at("parameters"), 0);
  EXPECT_EQ(found.at("components")[2].at("component"), "vae");
}

TEST_F(InspectTest, PackedMatricesCountAsWhatTheyStandFor) {
  const Tensor words = host_tensor({2, 8}, DType::u32);
  const Tensor scales = counting({2, 1});
  write_safetensors(at("packed.safetensors"), {{"transformer_blocks.0.attn.to_q.weight", words},
                                               {"transformer_blocks.0.attn.to_q.scales", scales},
                                               {"transformer_blocks.0.attn.to_q.biases", scales},
                                               {"transformer_blocks.0.attn.to_k.weight", counting({2, 3})},
                                               {"transformer_blocks.0.attn.to_q.bias", counting({2})}});
  const json component = inspect(at("packed.safetensors")).at("components")[0];
  EXPECT_EQ(component.at("component"), "transformer");
  EXPECT_EQ(component.at("scheme"), "mlx");
  EXPECT_EQ(component.at("format"), "int4+f32");
  EXPECT_EQ(component.at("parameters"), 2 * 64 + 6 + 2);
}

TEST_F(InspectTest, Lora) {
  std::map<std::string, Tensor> tensors = {{"lora_unet_img_in.dora_scale", counting({3})}};
  for (int block = 0; block < 3; ++block)
    add_pair(tensors, kLoraSpellings[7], fmt::format("transformer_blocks.{}.attn.to_q", block),
             {counting({4, 64}), counting({64, 4}), 2.0f});
  add_pair(tensors, kLoraSpellings[7], "img_in", {counting({1, 64}), counting({64, 1}), std::nullopt});
  write_safetensors(at("lora.safetensors"), tensors);
  const json found = inspect(at("lora.safetensors")).at("components")[0];
  EXPECT_EQ(found.at("component"), "lora");
  EXPECT_EQ(found.at("scheme"), "kohya");
  EXPECT_EQ(found.at("config"), json::parse(R"({"layers": 4, "ranks": [1, 4], "alphas": [2.0]})"));
  EXPECT_EQ(found.at("targets"), json::parse(R"({"img_in": 1, "transformer_blocks_*_attn_to_q": 3})"));
  EXPECT_EQ(found.at("surplus"), json::parse(R"(["lora_unet_img_in.dora_scale"])"));
  EXPECT_FALSE(found.contains("error"));
}

TEST_F(InspectTest, HalfALora) {
  write_safetensors(at("lora.safetensors"), {{"transformer_blocks.0.attn.to_q.lora_A.weight", counting({4, 64})}});
  const json found = inspect(at("lora.safetensors")).at("components")[0];
  EXPECT_EQ(found.at("component"), "lora");
  EXPECT_THAT(found.at("error").get<std::string>(), HasSubstr("no other half"));
}

TEST_F(InspectTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(error_of([&] { inspect_json(at("none")); }), HasSubstr("no such file or folder"));
  EXPECT_THAT(error_of([&] { inspect_json(folder_); }), HasSubstr("holds no weights"));
  write_safetensors(at("other.safetensors"), {{"foo.bar", counting({3})}});
  EXPECT_THAT(error_of([&] { inspect_json(at("other.safetensors")); }), HasSubstr("\"foo.bar\""));
}

}  // namespace
}  // namespace inkstone
