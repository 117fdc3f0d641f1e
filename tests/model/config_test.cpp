#include "model/config.h"

#include "io/files.h"
#include "io/json.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kTiny = fs::path(INKSTONE_MODELS) / "tiny";

/// The file with another value under `pointer`, given as JSON; "" takes the field out.
json changed(json file, const std::string& pointer, const std::string& value) {
  const json::json_pointer at(pointer);
  if (value.empty()) {
    file.at(at.parent_pointer()).erase(at.back());
  } else {
    file[at] = json::parse(value);
  }
  return file;
}

class ConfigTest : public FolderTest {
 protected:
  static json tiny_config(const char* component) { return JsonFile::read(kTiny / component / "config.json").object(); }

  Checkpoint checkpoint(const json& config) const {
    write("config.json", config.dump());
    return {.path = folder_};
  }

  TransformerConfig transformer(const json& config) const {
    ConfigOrigin origin;
    const auto c = read_transformer_config(checkpoint(config), origin);
    EXPECT_FALSE(origin.inferred);
    EXPECT_EQ(origin.note, "");
    return c;
  }
  TextEncoderConfig text_encoder(const json& config) const {
    ConfigOrigin origin;
    const auto c = read_text_encoder_config(checkpoint(config), origin);
    EXPECT_FALSE(origin.inferred);
    return c;
  }
  VaeConfig vae(const json& config) const {
    ConfigOrigin origin;
    const auto c = read_vae_config(checkpoint(config), origin);
    EXPECT_FALSE(origin.inferred);
    return c;
  }

  std::string transformer_error(const std::string& pointer, const std::string& value) const {
    return error_of([&] { transformer(changed(tiny_config("transformer"), pointer, value)); });
  }
  std::string text_encoder_error(const std::string& pointer, const std::string& value) const {
    return error_of([&] { text_encoder(changed(tiny_config("text_encoder"), pointer, value)); });
  }
  std::string vae_error(const std::string& pointer, const std::string& value) const {
    return error_of([&] { vae(changed(tiny_config("vae"), pointer, value)); });
  }

  /// The text encoder's fields at top level, as files of transformers before 4.52 have them.
  static json old_text_encoder_config() {
    json file = tiny_config("text_encoder");
    json inner = file["text_config"];
    file.erase("text_config");
    inner.erase("rope_parameters");
    inner.erase("model_type");
    file.update(inner);
    file["rope_theta"] = 500000.0;
    file["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {4, 6, 6}}};
    return file;
  }
};

TEST_F(ConfigTest, ReadsTheTransformers) {
  const TransformerConfig c = transformer(tiny_config("transformer"));
  EXPECT_EQ(c.patch, 2);
  EXPECT_EQ(c.in_channels, 64);
  EXPECT_EQ(c.out_channels, 16);
  EXPECT_EQ(c.layers, 8);
  EXPECT_EQ(c.heads, 3);
  EXPECT_EQ(c.head_width, 64);
  EXPECT_EQ(c.width(), 192);
  EXPECT_EQ(c.text_width, 192);
  EXPECT_THAT(c.rope_axes, ElementsAre(16, 24, 24));
}

TEST_F(ConfigTest, IgnoresWhatOlderTransformersConfigsSayMore) {
  json file = tiny_config("transformer");
  file["pooled_projection_dim"] = 768;
  for (const char* newer : {"zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"}) file.erase(newer);
  EXPECT_EQ(transformer(file).layers, 8);
}

TEST_F(ConfigTest, RefusesOtherTransformersAndVariants) {
  EXPECT_THAT(transformer_error("/_class_name", R"("FluxTransformer2DModel")"),
              AllOf(HasSubstr("config.json: field _class_name is \"FluxTransformer2DModel\""),
                    HasSubstr("QwenImageTransformer2DModel is needed")));
  for (const char* variant : {"guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"})
    EXPECT_THAT(transformer_error(fmt::format("/{}", variant), "true"),
                HasSubstr(fmt::format("field {} is true, false", variant)));
  EXPECT_THAT(transformer_error("/quantization_config", R"({"load_in_4bit": true})"),
              HasSubstr("field quantization_config is {\"load_in_4bit\":true}, none"));
}

TEST_F(ConfigTest, NeedsEverySizeOfTheTransformer) {
  for (const char* field : {"_class_name", "patch_size", "in_channels", "out_channels", "num_layers",
                            "num_attention_heads", "attention_head_dim", "joint_attention_dim", "axes_dims_rope"}) {
    const std::string pointer = fmt::format("/{}", field);
    EXPECT_THAT(transformer_error(pointer, ""), HasSubstr(fmt::format("field {} is missing", field)));
    for (const char* wrong : {"\"64\"", "true", "null", "{}", "0", "-2", "1e300"})
      EXPECT_THAT(transformer_error(pointer, wrong), HasSubstr(fmt::format("field {} is", field)));
  }
  EXPECT_THAT(transformer_error("/num_layers", "1000000000"), HasSubstr("from 1 to 1024"));
  EXPECT_THAT(transformer_error("/axes_dims_rope/1", "2.5"), HasSubstr("field axes_dims_rope[1] is 2.5"));
}

TEST_F(ConfigTest, ComparesTheTransformersSizesWithEachOther) {
  EXPECT_THAT(transformer_error("/attention_head_dim", "128"),
              AllOf(HasSubstr("[16, 24, 24], which adds up to 64"), HasSubstr("attention_head_dim 128")));
  EXPECT_THAT(transformer_error("/axes_dims_rope", "[16, 25, 23]"), HasSubstr("three even integers"));
  EXPECT_THAT(transformer_error("/axes_dims_rope", "[32, 32]"), HasSubstr("three even integers"));
  EXPECT_THAT(transformer_error("/in_channels", "128"),
              HasSubstr("field in_channels is 128, out_channels * patch_size^2 = 64 is needed"));
  EXPECT_THAT(transformer_error("/patch_size", "1"), HasSubstr("= 16 is needed"));
}

TEST_F(ConfigTest, ReadsTheTextEncodersInItsNewForm) {
  const TextEncoderConfig c = text_encoder(tiny_config("text_encoder"));
  EXPECT_EQ(c.width, 192);
  EXPECT_EQ(c.intermediate, 512);
  EXPECT_EQ(c.layers, 4);
  EXPECT_EQ(c.heads, 6);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.head_width, 32);
  EXPECT_EQ(c.vocabulary, 1111);
  EXPECT_FLOAT_EQ(c.norm_eps, 1e-6f);
  EXPECT_EQ(c.rope_theta, 1e6);
  EXPECT_EQ(text_encoder(changed(tiny_config("text_encoder"), "/text_config/rope_parameters/rope_theta", "1234.5"))
                .rope_theta,
            1234.5);
}

TEST_F(ConfigTest, ReadsTheTextEncodersInItsOldForm) {
  const TextEncoderConfig c = text_encoder(old_text_encoder_config());
  EXPECT_EQ(c.width, 192);
  EXPECT_EQ(c.layers, 4);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.vocabulary, 1111);
  EXPECT_EQ(c.rope_theta, 500000.0);
}

TEST_F(ConfigTest, PrefersTheTextEncodersNestedFields) {
  json file = old_text_encoder_config();
  file["text_config"] = tiny_config("text_encoder")["text_config"];
  file["hidden_size"] = 3584;
  EXPECT_EQ(text_encoder(file).width, 192);
}

TEST_F(ConfigTest, RefusesOtherTextEncodersAndVariants) {
  EXPECT_THAT(text_encoder_error("/model_type", R"("t5")"),
              HasSubstr("field model_type is \"t5\", \"qwen2_5_vl\" is needed"));
  EXPECT_THAT(text_encoder_error("/model_type", ""), HasSubstr("field model_type is missing"));
  EXPECT_THAT(text_encoder_error("/text_config/model_type", R"("llama")"),
              HasSubstr("field text_config.model_type is \"llama\", \"qwen2_5_vl\" is needed"));
  EXPECT_THAT(text_encoder_error("/architectures/0", R"("Qwen2VLForConditionalGeneration")"),
              AllOf(HasSubstr("field architectures is [\"Qwen2VLForConditionalGeneration\"]"),
                    HasSubstr("[\"Qwen2_5_VLForConditionalGeneration\"] is needed")));
  EXPECT_THAT(text_encoder_error("/architectures", "[]"), HasSubstr("field architectures is []"));
  EXPECT_THAT(text_encoder_error("/architectures", "3"), HasSubstr("an array is needed"));
  EXPECT_EQ(text_encoder(changed(tiny_config("text_encoder"), "/architectures", "")).width, 192);
  EXPECT_THAT(text_encoder_error("/text_config/hidden_act", R"("gelu")"),
              HasSubstr("field text_config.hidden_act is \"gelu\", \"silu\" is needed"));
  EXPECT_THAT(text_encoder_error("/text_config/use_sliding_window", "true"),
              HasSubstr("field text_config.use_sliding_window is true"));
  EXPECT_THAT(text_encoder_error("/text_config/layer_types/2", R"("sliding_attention")"),
              HasSubstr("\"full_attention\" for every layer"));
  EXPECT_THAT(text_encoder_error("/text_config/rope_parameters/rope_type", R"("yarn")"),
              HasSubstr("field text_config.rope_parameters.rope_type is \"yarn\""));
  EXPECT_THAT(text_encoder_error("/text_config/rope_scaling", R"({"type": "linear", "factor": 2})"),
              HasSubstr("field text_config.rope_scaling.type is \"linear\""));
  EXPECT_THAT(text_encoder_error("/quantization_config", R"({"bits": 4})"), HasSubstr("quantization_config"));
  EXPECT_THAT(text_encoder_error("/text_config", "1"), HasSubstr("field text_config is 1, an object"));
}

TEST_F(ConfigTest, NeedsEverySizeOfTheTextEncoder) {
  for (const char* field : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                            "num_key_value_heads", "vocab_size", "rms_norm_eps"}) {
    const std::string pointer = fmt::format("/text_config/{}", field);
    EXPECT_THAT(text_encoder_error(pointer, ""), HasSubstr(fmt::format("field text_config.{} is missing", field)));
    for (const char* wrong : {"\"6\"", "true", "null", "[]", "0", "-6", "1e300"})
      EXPECT_THAT(text_encoder_error(pointer, wrong), HasSubstr(fmt::format("field text_config.{} is", field)));
  }
}

TEST_F(ConfigTest, ComparesTheTextEncodersSizesWithEachOther) {
  EXPECT_THAT(text_encoder_error("/text_config/num_attention_heads", "5"),
              HasSubstr("num_attention_heads is 5, a number of heads of even width in hidden_size 192"));
  EXPECT_THAT(text_encoder_error("/text_config/num_attention_heads", "64"), HasSubstr("even width"));
  EXPECT_THAT(text_encoder_error("/text_config/num_key_value_heads", "4"),
              HasSubstr("num_key_value_heads is 4, a divisor of num_attention_heads 6"));
  EXPECT_THAT(text_encoder_error("/text_config/num_key_value_heads", "7"), HasSubstr("from 1 to 6"));
  EXPECT_THAT(text_encoder_error("/text_config/head_dim", "64"),
              HasSubstr("head_dim is 64, hidden_size / num_attention_heads = 32 is needed"));
  EXPECT_THAT(text_encoder_error("/text_config/rope_parameters/rope_theta", "0"), HasSubstr("more than 1 is needed"));
}

TEST_F(ConfigTest, ReadsTheVaes) {
  const VaeConfig c = vae(tiny_config("vae"));
  EXPECT_EQ(c.base, 32);
  EXPECT_EQ(c.latent_channels, 16);
  EXPECT_EQ(c.image_channels, 3);
  EXPECT_THAT(c.multipliers, ElementsAre(1, 1, 2, 2));
  EXPECT_EQ(c.res_blocks, 1);
  EXPECT_THAT(c.temporal_downsample, ElementsAre(false, true, true));
  EXPECT_EQ(c.scale(), 8);
  ASSERT_EQ(c.latents_mean.size(), 16u);
  EXPECT_EQ(c.latents_mean[1], -0.03639);
  EXPECT_EQ(c.latents_std[15], 0.4797);
  EXPECT_EQ(vae(changed(tiny_config("vae"), "/input_channels", "")).image_channels, 3);
  EXPECT_EQ(vae(changed(tiny_config("vae"), "/attn_scales", "")).base, 32);
}

TEST_F(ConfigTest, RefusesOtherVaesAndVariants) {
  EXPECT_THAT(vae_error("/_class_name", R"("AutoencoderKL")"), HasSubstr("AutoencoderKLQwenImage is needed"));
  EXPECT_THAT(vae_error("/attn_scales", "[0.5]"), HasSubstr("field attn_scales is [0.5], []"));
  EXPECT_THAT(vae_error("/input_channels", "4"), HasSubstr("field input_channels is 4, 3 (RGB) is needed"));
  EXPECT_THAT(vae_error("/quantization_config", R"({"bits": 4})"), HasSubstr("quantization_config"));
}

TEST_F(ConfigTest, NeedsEveryFieldOfTheVae) {
  for (const char* field : {"_class_name", "base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample",
                            "latents_mean", "latents_std"}) {
    const std::string pointer = fmt::format("/{}", field);
    EXPECT_THAT(vae_error(pointer, ""), HasSubstr(fmt::format("field {} is missing", field)));
    for (const char* wrong : {"\"1\"", "true", "null", "{}", "0", "-1"})
      EXPECT_THAT(vae_error(pointer, wrong), HasSubstr(fmt::format("field {} is", field)));
  }
  EXPECT_THAT(vae_error("/dim_mult/2", "65"), HasSubstr("field dim_mult[2] is 65"));
  EXPECT_THAT(vae_error("/temperal_downsample/0", "0"), HasSubstr("field temperal_downsample[0] is 0"));
}

TEST_F(ConfigTest, ComparesTheVaesSizesWithEachOther) {
  EXPECT_THAT(vae_error("/dim_mult", "[]"), HasSubstr("field dim_mult is [], an array of 1 to 8"));
  EXPECT_THAT(vae_error("/dim_mult", "[1, 2, 4]"),
              HasSubstr("temperal_downsample is [false,true,true], an array of 2"));
  EXPECT_THAT(vae_error("/base_dim", "33"), HasSubstr("field base_dim is 33, an even number of channels"));
  EXPECT_THAT(vae_error("/z_dim", "8"), HasSubstr("field latents_mean is"));
  EXPECT_THAT(vae_error("/latents_std", "[1, 2]"), HasSubstr("latents_std is [1,2], an array of z_dim = 16 numbers"));
  EXPECT_THAT(vae_error("/latents_std/3", "0"), HasSubstr("an array of positive numbers"));
}

TEST_F(ConfigTest, IsFoundBesideASingleFile) {
  checkpoint(tiny_config("transformer"));
  ConfigOrigin origin;
  EXPECT_EQ(read_transformer_config({.path = at("weights.safetensors")}, origin).layers, 8);
}

TEST_F(ConfigTest, ALinkToNothingIsNoMissingConfig) {
  fs::create_symlink(at("gone"), at("config.json"));
  ConfigOrigin origin;
  EXPECT_THAT(error_of([&] { read_transformer_config({.path = folder_}, origin); }), HasSubstr("No such file"));
}

class InferredConfigTest : public FolderTest {
 protected:
  using Shapes = std::map<std::string, Shape>;

  /// A checkpoint of tensors without data, as mflux's files name and lay them out.
  Checkpoint mflux(const Shapes& shapes) const {
    Checkpoint c{.path = folder_, .scheme = &mlx_scheme()};
    for (const auto& [name, shape] : shapes)
      c.tensors[name] = {Tensor(nullptr, 0, shape, DType::bf16), folder_ / "0.safetensors", name};
    return c;
  }
  static Shapes transformer_shapes() {
    return {{"img_in.weight", {3072, 64}},
            {"txt_norm.weight", {3584}},
            {"transformer_blocks.0.attn.norm_q.weight", {128}},
            {"transformer_blocks.59.attn.norm_q.weight", {128}}};
  }
  static Shapes text_encoder_shapes() {
    return {{"model.embed_tokens.weight", {152064, 3584}},
            {"model.layers.0.self_attn.q_proj.weight", {3584, 3584}},
            {"model.layers.0.self_attn.k_proj.weight", {512, 3584}},
            {"model.layers.0.mlp.gate_proj.weight", {18944, 3584}},
            {"model.layers.27.mlp.gate_proj.weight", {18944, 3584}}};
  }
  static Shapes vae_shapes() {
    Shapes shapes = {{"decoder.conv_in.weight", {384, 3, 3, 3, 16}}, {"decoder.conv_out.weight", {3, 3, 3, 3, 96}}};
    const int64_t widths[] = {384, 384, 192, 96};
    for (int stage = 0; stage < 4; ++stage)
      for (const int block : {0, 2})
        shapes[fmt::format("decoder.up_blocks.{}.resnets.{}.conv1.weight", stage, block)] = {widths[stage], 3, 3, 3, 8};
    return shapes;
  }
  static Shapes changed(Shapes shapes, const std::string& name, std::optional<Shape> shape) {
    shapes.erase(name);
    if (shape) shapes[name] = *shape;
    return shapes;
  }

  std::string transformer_error(const std::string& name, std::optional<Shape> shape) const {
    return error_of([&] {
      ConfigOrigin origin;
      read_transformer_config(mflux(changed(transformer_shapes(), name, shape)), origin);
    });
  }
  std::string text_encoder_error(const std::string& name, std::optional<Shape> shape) const {
    return error_of([&] {
      ConfigOrigin origin;
      read_text_encoder_config(mflux(changed(text_encoder_shapes(), name, shape)), origin);
    });
  }
  std::string vae_error(const std::string& name, std::optional<Shape> shape) const {
    return error_of([&] {
      ConfigOrigin origin;
      read_vae_config(mflux(changed(vae_shapes(), name, shape)), origin);
    });
  }
};

TEST_F(InferredConfigTest, OfTheTransformer) {
  ConfigOrigin origin;
  const TransformerConfig c = read_transformer_config(mflux(transformer_shapes()), origin);
  EXPECT_EQ(c.in_channels, 64);
  EXPECT_EQ(c.out_channels, 16);
  EXPECT_EQ(c.layers, 60);
  EXPECT_EQ(c.heads, 24);
  EXPECT_EQ(c.head_width, 128);
  EXPECT_EQ(c.text_width, 3584);
  EXPECT_THAT(c.rope_axes, ElementsAre(16, 56, 56));
  EXPECT_TRUE(origin.inferred);
  EXPECT_THAT(origin.note, AllOf(HasSubstr(folder_.string()), HasSubstr("no config.json"), HasSubstr("60 blocks"),
                                 HasSubstr("RoPE axes [16, 56, 56] as in Qwen-Image-2512")));
}

TEST_F(InferredConfigTest, OfASmallerTransformer) {
  auto shapes = changed(transformer_shapes(), "transformer_blocks.59.attn.norm_q.weight", std::nullopt);
  shapes["img_in.weight"] = {256, 16};
  ConfigOrigin origin;
  const TransformerConfig c = read_transformer_config(mflux(shapes), origin);
  EXPECT_EQ(c.layers, 1);
  EXPECT_EQ(c.heads, 2);
  EXPECT_EQ(c.out_channels, 4);
}

TEST_F(InferredConfigTest, NamesTheTensorThatDoesNotTell) {
  const std::string norm = "transformer_blocks.0.attn.norm_q.weight";
  EXPECT_THAT(transformer_error("img_in.weight", std::nullopt),
              AllOf(HasSubstr("config.json"), HasSubstr("img_in.weight"), HasSubstr("missing")));
  EXPECT_THAT(transformer_error("img_in.weight", Shape{3072}), HasSubstr("has shape [3072]; 2 positive sizes"));
  EXPECT_THAT(transformer_error("img_in.weight", Shape{3072, 0}), HasSubstr("2 positive sizes"));
  EXPECT_THAT(transformer_error("img_in.weight", Shape{3072, 63}), HasSubstr("63 features are no multiple of 4"));
  EXPECT_THAT(transformer_error("img_in.weight", Shape{3000, 64}), HasSubstr("3000 features are no multiple of 128"));
  EXPECT_THAT(transformer_error(norm, Shape{64}), HasSubstr("heads are 64 wide; a config.json is needed"));
  EXPECT_THAT(transformer_error("txt_norm.weight", std::nullopt), HasSubstr("txt_norm.weight"));
  EXPECT_THAT(transformer_error("transformer_blocks.x.weight", Shape{1}), HasSubstr("a layer number below 1024"));
  EXPECT_THAT(transformer_error("transformer_blocks.1024.weight", Shape{1}), HasSubstr("a layer number below 1024"));
  EXPECT_THAT(transformer_error("transformer_blocks.-1.weight", Shape{1}), HasSubstr("a layer number below 1024"));
  EXPECT_THAT(transformer_error("transformer_blocks.7", Shape{1}), HasSubstr("a layer number below 1024"));
  EXPECT_THAT(transformer_error("transformer_blocks.99999999999999999999.w", Shape{1}), HasSubstr("layer number"));
}

TEST_F(InferredConfigTest, OfTheTextEncoder) {
  ConfigOrigin origin;
  const TextEncoderConfig c = read_text_encoder_config(mflux(text_encoder_shapes()), origin);
  EXPECT_EQ(c.width, 3584);
  EXPECT_EQ(c.intermediate, 18944);
  EXPECT_EQ(c.layers, 28);
  EXPECT_EQ(c.heads, 28);
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_width, 128);
  EXPECT_EQ(c.vocabulary, 152064);
  EXPECT_FLOAT_EQ(c.norm_eps, 1e-6f);
  EXPECT_TRUE(origin.inferred);
  EXPECT_THAT(origin.note, AllOf(HasSubstr("28 layers"), HasSubstr("as in Qwen-Image-2512")));

  EXPECT_THAT(text_encoder_error("model.embed_tokens.weight", std::nullopt), HasSubstr("model.embed_tokens.weight"));
  EXPECT_THAT(text_encoder_error("model.embed_tokens.weight", Shape{152064, 2048}),
              HasSubstr("width 2048; without a config.json only 3584 is known"));
  EXPECT_THAT(text_encoder_error("model.layers.0.self_attn.q_proj.weight", Shape{100, 3584}),
              HasSubstr("100 features are no multiple of 128"));
  EXPECT_THAT(text_encoder_error("model.layers.0.self_attn.k_proj.weight", Shape{1024 - 384, 3584}),
              HasSubstr("5 key heads do not divide 28 query heads"));
}

TEST_F(InferredConfigTest, OfTheVae) {
  ConfigOrigin origin;
  const VaeConfig c = read_vae_config(mflux(vae_shapes()), origin);
  EXPECT_EQ(c.base, 96);
  EXPECT_EQ(c.latent_channels, 16);
  EXPECT_THAT(c.multipliers, ElementsAre(1, 2, 4, 4));
  EXPECT_EQ(c.scale(), 8);
  ASSERT_EQ(c.latents_mean.size(), 16u);
  EXPECT_EQ(c.latents_mean[7], 1.5508);
  EXPECT_EQ(c.latents_std[0], 2.8184);
  EXPECT_TRUE(origin.inferred);
  EXPECT_THAT(origin.note, AllOf(HasSubstr("96 base channels"), HasSubstr("as in Qwen-Image-2512")));

  EXPECT_THAT(vae_error("decoder.conv_in.weight", Shape{384, 3, 3, 3, 8}), HasSubstr("takes 8 channels"));
  EXPECT_THAT(vae_error("decoder.conv_out.weight", Shape{4, 3, 3, 3, 96}), HasSubstr("makes 4 channels"));
  EXPECT_THAT(vae_error("decoder.conv_out.weight", Shape{3, 96}), HasSubstr("5 positive sizes"));
  EXPECT_THAT(vae_error("decoder.conv_out.weight", std::nullopt), HasSubstr("decoder.conv_out.weight"));
}

TEST_F(InferredConfigTest, OfAVaeWithOtherStagesIsNone) {
  const auto needs_config = HasSubstr("a config.json is needed unless");
  EXPECT_THAT(vae_error("decoder.conv_in.weight", Shape{64, 3, 3, 3, 16}),
              AllOf(HasSubstr("decoder.conv_in.weight"), HasSubstr("makes 64 channels; with 96"), needs_config,
                    HasSubstr("they are 384")));
  EXPECT_THAT(vae_error("decoder.up_blocks.2.resnets.0.conv1.weight", Shape{96, 3, 3, 3, 192}),
              AllOf(HasSubstr("makes 96 channels"), needs_config, HasSubstr("they are 192")));
  EXPECT_THAT(vae_error("decoder.up_blocks.4.resnets.0.conv1.weight", Shape{96, 3, 3, 3, 96}),
              AllOf(HasSubstr("has 5 of decoder.up_blocks.*"), needs_config, HasSubstr("there are 4")));
  EXPECT_THAT(vae_error("decoder.up_blocks.1.resnets.3.conv1.weight", Shape{384, 3, 3, 3, 384}),
              AllOf(HasSubstr("has 4 of decoder.up_blocks.1.resnets.*"), needs_config, HasSubstr("there are 3")));
  const fs::path folder = at("vae");  // the shipped model's, in diffusers' names
  fs::create_directories(folder);
  fs::copy(kTiny / "vae" / "diffusion_pytorch_model.safetensors", folder);
  ConfigOrigin origin;
  EXPECT_THAT(error_of([&] { read_vae_config(open_checkpoint(folder, Component::vae), origin); }),
              AllOf(HasSubstr((folder / "diffusion_pytorch_model.safetensors").string()), needs_config));
}

class ModelDefaultsTest : public FolderTest {
 protected:
  std::string error(const std::string& text) const {
    write("inkstone.json", text);
    return error_of([&] { read_model_defaults(folder_); });
  }
};

TEST_F(ModelDefaultsTest, AreThePublishedModelsWithoutAFile) {
  const ModelDefaults d = read_model_defaults(folder_);
  EXPECT_EQ(d.steps, 50);
  EXPECT_EQ(d.width, 1328);
  EXPECT_EQ(d.height, 1328);
  EXPECT_EQ(d.cfg, 4.0);
}

TEST_F(ModelDefaultsTest, AreWhatTheFileSays) {
  write("inkstone.json", R"({"steps": 20, "width": 320, "height": 192, "cfg": 1})");
  const ModelDefaults d = read_model_defaults(folder_);
  EXPECT_EQ(d.steps, 20);
  EXPECT_EQ(d.width, 320);
  EXPECT_EQ(d.height, 192);
  EXPECT_EQ(d.cfg, 1.0);
  write("inkstone.json", R"({"steps": 4})");
  EXPECT_EQ(read_model_defaults(folder_).steps, 4);
  EXPECT_EQ(read_model_defaults(folder_).width, 1328);
}

TEST_F(ModelDefaultsTest, AreReadStrictly) {
  EXPECT_THAT(error(R"({"step": 4})"), AllOf(HasSubstr("inkstone.json"), HasSubstr("field \"step\" is unknown"),
                                             HasSubstr("steps, width, height, cfg")));
  EXPECT_THAT(error(R"({"steps": 0})"), HasSubstr("field steps is 0, an integer from 1"));
  EXPECT_THAT(error(R"({"width": "256"})"), HasSubstr("field width is \"256\""));
  EXPECT_THAT(error(R"({"height": 1e9})"), HasSubstr("field height is"));
  EXPECT_THAT(error(R"({"cfg": 0.5})"), HasSubstr("field cfg is 0.5, a number of at least 1"));
  EXPECT_THAT(error("[4]"), HasSubstr("a JSON object is needed"));
}

}  // namespace
}  // namespace inkstone
