// Single files as ComfyUI has them, made from the folders in tests/data.
#include <algorithm>

#include "expected.h"
#include "io/checkpoint.h"
#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

Checkpoint folder_of(Component component) {
  return open_checkpoint(test_model("random_b") / name_of(component), component);
}

/// The canonical tensors of a component under `prefix`.
Tensors prefixed(const std::string& prefix, Component component) {
  Tensors tensors;
  for (const auto& [name, tensor] : folder_of(component).tensors) tensors.emplace(prefix + name, tensor.data);
  return tensors;
}

void expect_same(const Checkpoint& got, Component component) {
  const Checkpoint expected = folder_of(component);
  EXPECT_EQ(got.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) {
    const StoredTensor* found = got.find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->data.shape(), tensor.data.shape()) << name;
    EXPECT_EQ(std::memcmp(found->data.data<char>(), tensor.data.data<char>(), tensor.data.bytes()), 0) << name;
  }
}

/// Wan's names of the published VAE, and diffusers'.
const std::vector<std::pair<std::string, std::string>>& published_names() {
  static const std::vector<std::pair<std::string, std::string>> names = {
      {"conv1.weight", "quant_conv.weight"},
      {"conv2.bias", "post_quant_conv.bias"},
      {"encoder.conv1.weight", "encoder.conv_in.weight"},
      {"encoder.downsamples.0.residual.0.gamma", "encoder.down_blocks.0.norm1.gamma"},
      {"encoder.downsamples.2.resample.1.weight", "encoder.down_blocks.2.resample.1.weight"},
      {"encoder.downsamples.3.shortcut.bias", "encoder.down_blocks.3.conv_shortcut.bias"},
      {"encoder.downsamples.8.time_conv.weight", "encoder.down_blocks.8.time_conv.weight"},
      {"encoder.downsamples.10.residual.6.bias", "encoder.down_blocks.10.conv2.bias"},
      {"encoder.middle.0.residual.2.weight", "encoder.mid_block.resnets.0.conv1.weight"},
      {"encoder.middle.1.to_qkv.weight", "encoder.mid_block.attentions.0.to_qkv.weight"},
      {"encoder.head.0.gamma", "encoder.norm_out.gamma"},
      {"encoder.head.2.weight", "encoder.conv_out.weight"},
      {"decoder.conv1.bias", "decoder.conv_in.bias"},
      {"decoder.middle.1.norm.gamma", "decoder.mid_block.attentions.0.norm.gamma"},
      {"decoder.middle.2.residual.3.gamma", "decoder.mid_block.resnets.1.norm2.gamma"},
      {"decoder.upsamples.0.residual.2.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"},
      {"decoder.upsamples.3.resample.1.bias", "decoder.up_blocks.0.upsamplers.0.resample.1.bias"},
      {"decoder.upsamples.4.shortcut.weight", "decoder.up_blocks.1.resnets.0.conv_shortcut.weight"},
      {"decoder.upsamples.7.time_conv.bias", "decoder.up_blocks.1.upsamplers.0.time_conv.bias"},
      {"decoder.upsamples.11.resample.1.weight", "decoder.up_blocks.2.upsamplers.0.resample.1.weight"},
      {"decoder.upsamples.14.residual.6.weight", "decoder.up_blocks.3.resnets.2.conv2.weight"},
      {"decoder.head.2.bias", "decoder.conv_out.bias"},
  };
  return names;
}

/// Replaces the first of `pairs` that is found.
std::string swapped(std::string name, std::initializer_list<std::pair<const char*, const char*>> pairs) {
  for (const auto& [from, to] : pairs)
    if (const size_t at = name.find(from); at != std::string::npos) return name.replace(at, strlen(from), to);
  return name;
}

/// Wan's name of a tensor of random_b's VAE: stages of two residual blocks and an up-sampler.
std::string wan_name_of(const std::string& name) {
  std::string n = swapped(name, {{"encoder.down_blocks.", "encoder.downsamples."},
                                 {"mid_block.attentions.0.", "middle.1."},
                                 {"mid_block.resnets.0.", "middle.0."},
                                 {"mid_block.resnets.1.", "middle.2."},
                                 {"norm_out.gamma", "head.0.gamma"},
                                 {"conv_out.", "head.2."},
                                 {"conv_in.", "conv1."},
                                 {"post_quant_conv.", "conv2."},
                                 {"quant_conv.", "conv1."}});
  int stage = 0, resnet = 0;
  if (std::sscanf(n.c_str(), "decoder.up_blocks.%d.resnets.%d.", &stage, &resnet) == 2) {
    const size_t tail = n.find('.', n.find("resnets.") + 8);
    n = fmt::format("decoder.upsamples.{}{}", 3 * stage + resnet, n.substr(tail));
  } else if (std::sscanf(n.c_str(), "decoder.up_blocks.%d.upsamplers.0.", &stage) == 1) {
    n = fmt::format("decoder.upsamples.{}{}", 3 * stage + 2, n.substr(n.find("upsamplers.0.") + 12));
  }
  if (n.find("downsamples") == std::string::npos && n.find("upsamples") == std::string::npos &&
      n.find("middle.0") == std::string::npos && n.find("middle.2") == std::string::npos)
    return n;
  return swapped(n, {{".norm1.gamma", ".residual.0.gamma"},
                     {".conv1.", ".residual.2."},
                     {".norm2.gamma", ".residual.3.gamma"},
                     {".conv2.", ".residual.6."},
                     {".conv_shortcut.", ".shortcut."}});
}

Tensors wan_vae(const std::string& prefix) {
  Tensors tensors;
  for (const auto& [name, tensor] : folder_of(Component::vae).tensors)
    tensors.emplace(prefix + wan_name_of(name), tensor.data);
  return tensors;
}

class ComfyTest : public FolderTest {
 protected:
  Checkpoint open(const Tensors& tensors, Component component) const {
    write_safetensors(at("c.safetensors"), tensors);
    return open_checkpoint(at("c.safetensors"), component);
  }
};

TEST_F(ComfyTest, PrefixesOfTheTransformerAreStripped) {
  for (const std::string prefix : {"", "model.diffusion_model.", "diffusion_model.", "transformer."}) {
    SCOPED_TRACE(prefix);
    const Checkpoint c = open(prefixed(prefix, Component::transformer), Component::transformer);
    EXPECT_EQ(c.scheme, prefix.empty() ? &diffusers_scheme() : &comfy_scheme());
    expect_same(c, Component::transformer);
  }
}

TEST_F(ComfyTest, WanNamesOfTheVaeAreThoseOfDiffusers) {
  for (const std::string prefix : {"", "vae.", "first_stage_model."}) {
    SCOPED_TRACE(prefix);
    Tensors published;
    for (const auto& names : published_names()) published.emplace(prefix + names.first, counting({1}));
    const Checkpoint c = open(published, Component::vae);
    EXPECT_EQ(c.tensors.size(), published.size());
    for (const auto& [wan, diffusers] : published_names()) {
      ASSERT_NE(c.find(diffusers), nullptr) << diffusers;
      EXPECT_EQ(c.find(diffusers)->name, prefix + wan);
    }
  }
}

TEST_F(ComfyTest, AWholeWanVaeOpensWhateverTheLengthOfItsStages) {
  for (const std::string prefix : {"", "vae.", "first_stage_model."}) {
    SCOPED_TRACE(prefix);
    expect_same(open(wan_vae(prefix), Component::vae), Component::vae);
  }
}

TEST_F(ComfyTest, DiffusersNamesOfTheVaeMayHaveAPrefixToo) {
  expect_same(open(prefixed("vae.", Component::vae), Component::vae), Component::vae);
}

TEST_F(ComfyTest, EveryComponentIsPickedFromAnAllInOneFile) {
  Tensors all = prefixed("model.diffusion_model.", Component::transformer);
  all.merge(prefixed("text_encoders.qwen25_7b.transformer.", Component::text_encoder));
  all.merge(wan_vae("vae."));
  all["text_encoders.qwen25_7b.logit_scale"] = counting({1});
  write_safetensors(at("all.safetensors"), all);
  for (const Component component : {Component::transformer, Component::text_encoder, Component::vae}) {
    SCOPED_TRACE(name_of(component));
    expect_same(open_checkpoint(at("all.safetensors"), component), component);
  }
}

TEST_F(ComfyTest, TensorsOfNoComponentRemainToBeNoticed) {
  Tensors tensors = prefixed("model.diffusion_model.", Component::transformer);
  tensors.emplace("cond_stage_model.x", counting({1}));
  EXPECT_NE(open(tensors, Component::transformer).find("cond_stage_model.x"), nullptr);
}

TEST_F(ComfyTest, AnotherFamilyIsRefused) {
  for (const std::string prefix : {"", "model.diffusion_model."})
    EXPECT_THAT(
        error_of([&] {
          open({{prefix + "img_in.weight", counting({4, 128})}, {prefix + "x", counting({1})}}, Component::transformer);
        }),
        AllOf(HasSubstr("c.safetensors: tensor \"" + prefix + "img_in.weight\""),
              HasSubstr("takes 128 features a token: a model of another family; Qwen-Image's takes 64")));
}

TEST_F(ComfyTest, ATensorWithAndWithoutPrefixIsRefused) {
  EXPECT_THAT(error_of([&] {
                open({{"model.diffusion_model.x", counting({1})}, {"x", counting({1})}}, Component::transformer);
              }),
              AllOf(HasSubstr("\"model.diffusion_model.x\""), HasSubstr("is the same tensor as")));
}

}  // namespace
}  // namespace inkstone
