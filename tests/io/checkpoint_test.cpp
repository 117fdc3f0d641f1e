#include "io/checkpoint.h"

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

class CheckpointTest : public FolderTest {
 protected:
  /// Opens a file that holds tensors of these names.
  Checkpoint open_names(const std::vector<std::string>& names, Component component) const {
    Tensors tensors;
    for (const std::string& name : names) tensors.emplace(name, counting({1}));
    write_safetensors(at("names.safetensors"), tensors);
    return open_checkpoint(at("names.safetensors"), component);
  }

  std::vector<std::string> canonical(const std::vector<std::string>& names, Component component) const {
    std::vector<std::string> result;
    for (const auto& item : open_names(names, component).tensors) result.push_back(item.first);
    return result;
  }

  /// A folder of two shards with tensors a, b and c, and an index with this weight_map.
  std::string error_with_index(const std::string& index) {
    write_safetensors(at("s/1.safetensors"), {{"a", counting({1})}, {"b", counting({1})}});
    write_safetensors(at("s/2.safetensors"), {{"c", counting({1})}});
    write("s/model.safetensors.index.json", index);
    return error_of([&] { open_checkpoint(at("s"), Component::transformer); });
  }

  void SetUp() override { fs::create_directories(at("s")); }
};

TEST_F(CheckpointTest, OpensAFileAFolderWithOneFileAndShardsWithAnIndex) {
  write_safetensors(at("s/diffusion_pytorch_model.safetensors"), {{"a", counting({2})}});
  EXPECT_EQ(open_checkpoint(at("s/diffusion_pytorch_model.safetensors"), Component::vae).tensors.size(), 1u);
  const Checkpoint folder = open_checkpoint(at("s"), Component::vae);
  ASSERT_NE(folder.find("a"), nullptr);
  EXPECT_EQ(folder.find("b"), nullptr);
  EXPECT_THAT(folder.files, ElementsAre(at("s/diffusion_pytorch_model.safetensors")));
}

TEST_F(CheckpointTest, ReadsTheShardsThatTheIndexNames) {
  write_safetensors(at("s/m-1.safetensors"), {{"a", counting({1})}, {"b", counting({1})}});
  write_safetensors(at("s/m-2.safetensors"), {{"c", counting({1})}});
  write_safetensors(at("s/other.safetensors"), {{"a", counting({9})}});
  write("s/m.safetensors.index.json", R"({"metadata": {"total_size": 12}, "weight_map":
        {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}})");
  const Checkpoint c = open_checkpoint(at("s"), Component::transformer);
  EXPECT_EQ(c.tensors.size(), 3u);
  EXPECT_EQ(c.find("a")->data.count(), 1);
  EXPECT_EQ(c.find("c")->file, at("s/m-2.safetensors"));
  EXPECT_THAT(c.files, ElementsAre(at("s/m-1.safetensors"), at("s/m-2.safetensors")));
}

TEST_F(CheckpointTest, RefusesAnIndexThatDisagreesWithTheShards) {
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "3.safetensors"}})"),
              AllOf(HasSubstr("model.safetensors.index.json"), HasSubstr("3.safetensors is missing")));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "1.safetensors", "c": "2.safetensors"}})"),
              AllOf(HasSubstr("\"b\""), HasSubstr("is not in its weight_map")));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors",
                                                  "d": "2.safetensors"}})"),
              AllOf(HasSubstr("\"d\""), HasSubstr("2.safetensors, which does not hold it")));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}})"),
              AllOf(HasSubstr("\"b\" should be in 2.safetensors"), HasSubstr("1.safetensors")));
}

TEST_F(CheckpointTest, RefusesBrokenIndexes) {
  EXPECT_THAT(error_with_index("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_with_index("{}"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(error_with_index(R"({"weight_map": []})"), HasSubstr("weight_map is []"));
  EXPECT_THAT(error_with_index(R"({"weight_map": {}})"), HasSubstr("weight_map is empty"));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": 1}})"), HasSubstr("tensor \"a\" is in 1"));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}})"),
              HasSubstr("given twice"));
}

TEST_F(CheckpointTest, RefusesIndexesThatLeadOutOfTheFolder) {
  write_safetensors(at("x.safetensors"), {{"a", counting({1})}});
  for (const std::string name : {"../x.safetensors", "/x.safetensors", "sub/x.safetensors", "..", ".", "",
                                 "..\\\\x.safetensors", "x.safetensors\\u0000.safetensors"})
    EXPECT_THAT(error_with_index(R"({"weight_map": {"a": ")" + name + "\"}}"),
                HasSubstr("in the same folder is needed"))
        << name;
}

TEST_F(CheckpointTest, RefusesSeveralIndexes) {
  write("s/a.safetensors.index.json", "{}");
  EXPECT_THAT(error_with_index("{}"), HasSubstr("a.safetensors.index.json, model.safetensors.index.json"));
}

TEST_F(CheckpointTest, ReadsNumberedFilesAndNoticesAHole) {
  write_safetensors(at("s/0.safetensors"), {{"a", counting({1})}});
  write_safetensors(at("s/1.safetensors"), {{"b", counting({1})}});
  EXPECT_EQ(open_checkpoint(at("s"), Component::transformer).tensors.size(), 2u);
  fs::rename(at("s/1.safetensors"), at("s/2.safetensors"));
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::transformer); }),
              HasSubstr("found 0.safetensors, 2.safetensors"));
  fs::remove(at("s/0.safetensors"));
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::transformer); }), HasSubstr("found 2.safetensors"));
}

TEST_F(CheckpointTest, RefusesATensorInTwoFiles) {
  write_safetensors(at("s/0.safetensors"), {{"a", counting({1})}});
  write_safetensors(at("s/1.safetensors"), {{"a", counting({1})}});
  EXPECT_THAT(
      error_of([&] { open_checkpoint(at("s"), Component::transformer); }),
      AllOf(HasSubstr("1.safetensors: tensor \"a\" is also in"), HasSubstr("0.safetensors; give one of the two")));
}

TEST_F(CheckpointTest, TakesAllFilesOfAFolderWithoutAnIndex) {
  write_safetensors(at("s/blocks.safetensors"), {{"a", counting({1})}});
  write_safetensors(at("s/rest.safetensors"), {{"b", counting({1})}});
  const Checkpoint c = open_checkpoint(at("s"), Component::transformer);
  EXPECT_NE(c.find("a"), nullptr);
  EXPECT_NE(c.find("b"), nullptr);
  write("s/more.gguf", "GGUF");
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::transformer); }),
              HasSubstr("holds *.safetensors and *.gguf"));
}

TEST_F(CheckpointTest, NoticesAMissingPartWithoutAnIndex) {
  write_safetensors(at("s/m-00001-of-00002.safetensors"), {{"a", counting({1})}});
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::transformer); }),
              HasSubstr("m-00002-of-00002.safetensors is missing; found m-00001-of-00002.safetensors"));
  write_safetensors(at("s/m-00002-of-00002.safetensors"), {{"b", counting({1})}});
  EXPECT_EQ(open_checkpoint(at("s"), Component::transformer).tensors.size(), 2u);
}

TEST_F(CheckpointTest, RefusesForeignFiles) {
  const fs::path file = write("picture.png", std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16));
  EXPECT_THAT(error_of([&] { open_checkpoint(file, Component::vae); }),
              AllOf(HasSubstr("picture.png: is neither a safetensors nor a GGUF file, one of which is needed"),
                    HasSubstr("PNG\\r\\n")));
}

TEST_F(CheckpointTest, RefusesNothing) {
  EXPECT_THAT(error_of([&] { open_checkpoint(at("none"), Component::vae); }),
              AllOf(HasSubstr("none: no such"), HasSubstr("vae")));
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::vae); }),
              HasSubstr("holds no weights (*.safetensors, *.gguf)"));
  write_safetensors(at("s/0.safetensors"), {});
  EXPECT_THAT(error_of([&] { open_checkpoint(at("s"), Component::vae); }), HasSubstr("holds no tensors"));
}

TEST_F(CheckpointTest, TextEncoderPrefixesBecomeTheOldOnes) {
  const std::vector<std::string> old = {"lm_head.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight",
                                        "visual.merger.ln_q.weight"};
  EXPECT_EQ(canonical(old, Component::text_encoder), old);
  EXPECT_EQ(canonical({"lm_head.weight", "model.language_model.layers.0.mlp.up_proj.weight",
                       "model.language_model.norm.weight", "model.visual.merger.ln_q.weight"},
                      Component::text_encoder),
            old);
  for (const std::string prefix : {"text_encoders.llm.", "text_encoders.qwen25_7b.transformer."}) {
    std::vector<std::string> wrapped;
    for (const std::string& name : old) wrapped.push_back(prefix + name);
    EXPECT_EQ(canonical(wrapped, Component::text_encoder), old);
  }
}

TEST_F(CheckpointTest, TablesOfRopeAnglesAreLeftOut) {
  EXPECT_THAT(
      canonical({"model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"},
                Component::text_encoder),
      ElementsAre("model.norm.weight"));
  EXPECT_THAT(canonical({"encoder.norm.weight", "encoder.rotary_emb.inv_freq"}, Component::text_encoder),
              ElementsAre("model.norm.weight"));
}

TEST_F(CheckpointTest, TwoNamesForOneTensorAreRefused) {
  EXPECT_THAT(error_of([&] {
                open_names({"model.norm.weight", "model.language_model.norm.weight"}, Component::text_encoder);
              }),
              AllOf(HasSubstr("\"model.norm.weight\""), HasSubstr("\"model.language_model.norm.weight\"")));
}

TEST_F(CheckpointTest, KeepsDiffusersNames) {
  const std::vector<std::string> names = {"encoder.down_blocks.5.resample.1.weight",
                                          "decoder.up_blocks.0.resnets.2.norm1.gamma"};
  const Checkpoint c = open_names(names, Component::vae);
  EXPECT_EQ(c.scheme, &diffusers_scheme());
  for (const std::string& name : names) EXPECT_NE(c.find(name), nullptr) << name;
}

/// A stored name of mflux and its canonical one.
struct Rename {
  Component component;
  const char* stored;
  const char* canonical;
};

class MlxNames : public CheckpointTest, public ::testing::WithParamInterface<Rename> {};

TEST_P(MlxNames, BecomeTheNamesOfDiffusers) {
  // One more tensor makes the number of resnets per stage of the VAE's encoder known.
  const bool vae = GetParam().component == Component::vae;
  const std::string sibling = vae ? "encoder.down_blocks.0.resnets.1.conv1.conv3d.bias" : "x.scales";
  const Checkpoint c = open_names({GetParam().stored, sibling}, GetParam().component);
  EXPECT_EQ(c.scheme, &mlx_scheme());
  ASSERT_NE(c.find(GetParam().canonical), nullptr) << c.tensors.begin()->first;
  EXPECT_EQ(c.find(GetParam().canonical)->name, GetParam().stored);
}

constexpr auto kTransformer = Component::transformer;
constexpr auto kTextEncoder = Component::text_encoder;
constexpr auto kVae = Component::vae;

INSTANTIATE_TEST_SUITE_P(
    All, MlxNames,
    ::testing::Values(
        Rename{kTransformer, "transformer_blocks.1.img_mod_linear.weight", "transformer_blocks.1.img_mod.1.weight"},
        Rename{kTransformer, "transformer_blocks.1.txt_mod_linear.biases", "transformer_blocks.1.txt_mod.1.biases"},
        Rename{kTransformer, "transformer_blocks.1.attn.attn_to_out.0.bias", "transformer_blocks.1.attn.to_out.0.bias"},
        Rename{kTransformer, "transformer_blocks.1.img_ff.mlp_in.weight",
               "transformer_blocks.1.img_mlp.net.0.proj.weight"},
        Rename{kTransformer, "transformer_blocks.1.img_ff.mlp_out.weight", "transformer_blocks.1.img_mlp.net.2.weight"},
        Rename{kTransformer, "transformer_blocks.1.txt_ff.mlp_in.scales",
               "transformer_blocks.1.txt_mlp.net.0.proj.scales"},
        Rename{kTransformer, "transformer_blocks.1.txt_ff.mlp_out.weight", "transformer_blocks.1.txt_mlp.net.2.weight"},
        Rename{kTransformer, "transformer_blocks.1.attn.to_q.weight", "transformer_blocks.1.attn.to_q.weight"},
        Rename{kTextEncoder, "encoder.embed_tokens.weight", "model.embed_tokens.weight"},
        Rename{kTextEncoder, "encoder.layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"},
        Rename{kTextEncoder, "encoder.visual.merger.mlp_0.weight", "visual.merger.mlp_0.weight"},
        Rename{kVae, "post_quant_conv.conv3d.weight", "post_quant_conv.weight"},
        Rename{kVae, "decoder.conv_in.conv3d.weight", "decoder.conv_in.weight"},
        Rename{kVae, "decoder.norm_out.weight", "decoder.norm_out.gamma"},
        Rename{kVae, "decoder.mid_block.attentions.0.norm.weight", "decoder.mid_block.attentions.0.norm.gamma"},
        Rename{kVae, "decoder.mid_block.attentions.0.to_qkv.weight", "decoder.mid_block.attentions.0.to_qkv.weight"},
        Rename{kVae, "decoder.mid_block.resnets.1.conv2.conv3d.bias", "decoder.mid_block.resnets.1.conv2.bias"},
        Rename{kVae, "decoder.up_block2.resnets.1.norm2.weight", "decoder.up_blocks.2.resnets.1.norm2.gamma"},
        Rename{kVae, "decoder.up_block1.resnets.0.skip_conv.conv3d.weight",
               "decoder.up_blocks.1.resnets.0.conv_shortcut.weight"},
        Rename{kVae, "decoder.up_block0.upsamplers.0.resample_conv.weight",
               "decoder.up_blocks.0.upsamplers.0.resample.1.weight"},
        Rename{kVae, "decoder.up_block0.upsamplers.0.time_conv.conv3d.weight",
               "decoder.up_blocks.0.upsamplers.0.time_conv.weight"},
        Rename{kVae, "encoder.down_blocks.0.resnets.0.norm1.weight", "encoder.down_blocks.0.norm1.gamma"},
        Rename{kVae, "encoder.down_blocks.1.resnets.0.skip_conv.conv3d.bias",
               "encoder.down_blocks.3.conv_shortcut.bias"},
        Rename{kVae, "encoder.down_blocks.2.downsamplers.0.resample_conv.weight",
               "encoder.down_blocks.8.resample.1.weight"},
        Rename{kVae, "encoder.down_blocks.3.resnets.1.conv2.conv3d.weight", "encoder.down_blocks.10.conv2.weight"}));

TEST_F(CheckpointTest, TheEncodersFlatListFollowsItsResnetsPerStage) {
  EXPECT_THAT(canonical({"encoder.down_blocks.0.resnets.0.conv1.conv3d.bias",
                         "encoder.down_blocks.1.resnets.0.conv1.conv3d.bias",
                         "encoder.down_blocks.1.downsamplers.0.resample_conv.bias"},
                        Component::vae),
              ElementsAre("encoder.down_blocks.0.conv1.bias", "encoder.down_blocks.2.conv1.bias",
                          "encoder.down_blocks.3.resample.1.bias"));
}

TEST_F(CheckpointTest, OddStageNumbersAreKeptAsTheyAre) {
  const std::vector<std::string> names = {"encoder.down_blocks.-1.resnets.0.x",
                                          "encoder.down_blocks.99999999999.resnets.0.x", "encoder.down_blocks.",
                                          "encoder.down_blocks.x", "x.conv3d.y"};
  EXPECT_EQ(open_names(names, Component::vae).tensors.size(), names.size());
}

TEST_F(CheckpointTest, TellsTheShapesThatDiffusersHas) {
  write_safetensors(at("p.safetensors"), {{"x.weight", host_tensor({3, 16}, DType::u32)},
                                          {"x.scales", counting({3, 2})},
                                          {"x.biases", counting({3, 2})},
                                          {"dense.weight", counting({3, 5})}});
  const Checkpoint packed = open_checkpoint(at("p.safetensors"), Component::transformer);
  EXPECT_EQ(packed.shape_of("x.weight"), (Shape{3, 128}));
  EXPECT_EQ(packed.shape_of("dense.weight"), (Shape{3, 5}));
  EXPECT_EQ(packed.shape_of("none.weight"), std::nullopt);

  write_safetensors(at("v.safetensors"), {{"decoder.conv_in.conv3d.weight", counting({2, 3, 3, 3, 5})}});
  EXPECT_EQ(open_checkpoint(at("v.safetensors"), Component::vae).shape_of("decoder.conv_in.weight"),
            (Shape{2, 5, 3, 3, 3}));
}

}  // namespace
}  // namespace inkstone
