#include "io/lora.h"

#include "io/files.h"
#include "io/lora_files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

using Tensors = std::map<std::string, Tensor>;

constexpr const char* kLayer = "transformer_blocks.0.attn.to_out.0";

class LoraTest : public FolderTest {
 protected:
  /// A transformer of two layers (3, 2) and a vector.
  Checkpoint transformer() const {
    write_safetensors(at("t.safetensors"), {{"img_in.weight", counting({3, 2})},
                                            {std::string(kLayer) + ".weight", counting({3, 2})},
                                            {"txt_norm.weight", counting({2})}});
    return open_checkpoint(at("t.safetensors"), Component::transformer);
  }

  Lora lora(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) const {
    write_safetensors(at("lora.safetensors"), tensors, metadata);
    return read_lora(at("lora.safetensors"));
  }

  std::string error(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) const {
    return error_of([&] { lora(tensors, metadata); });
  }

  std::string attach_error(const Tensors& tensors, Unmatched unmatched = Unmatched::refuse) const {
    Checkpoint files = transformer();
    const Lora read = lora(tensors);
    return error_of([&] { attach_lora(files, read, 1, unmatched); });
  }
};

Tensors pair(const std::string& layer, int64_t rank = 1, std::optional<float> alpha = std::nullopt) {
  Tensors tensors;
  add_pair(tensors, kLoraSpellings[0], layer, {counting({rank, 2}), counting({3, rank}), alpha});
  return tensors;
}

Tensors joined(Tensors a, const Tensors& b) {
  a.insert(b.begin(), b.end());
  return a;
}

TEST_F(LoraTest, EverySpellingFindsItsLayers) {
  for (const LoraSpelling& spelling : kLoraSpellings)
    for (const std::optional<float> alpha : {std::optional<float>(), std::optional(3.0f)}) {
      SCOPED_TRACE(spelling.label);
      Tensors tensors;
      add_pair(tensors, spelling, "img_in", {counting({1, 2}), counting({3, 1}), alpha});
      add_pair(tensors, spelling, kLayer, {counting({4, 2}), counting({3, 4}), std::nullopt});
      const Lora found = lora(tensors);
      EXPECT_EQ(found.spelling(), spelling.name);
      EXPECT_THAT(found.ranks(), ElementsAre(1, 4));
      EXPECT_EQ(found.alphas(), alpha ? std::set<double>{3.0} : std::set<double>{});

      Checkpoint files = transformer();
      EXPECT_THAT(attach_lora(files, found, 0.5, Unmatched::refuse), ElementsAre());
      ASSERT_EQ(files.branches.size(), 2u);
      EXPECT_EQ(files.branches.at("img_in").at(0).factor, alpha ? 1.5f : 0.5f);
      EXPECT_EQ(files.branches.at(kLayer).at(0).factor, 0.5f);
      EXPECT_EQ(values(files.branches.at(kLayer).at(0).down.data), values(counting({4, 2})));
      EXPECT_EQ(values(files.branches.at(kLayer).at(0).up.data), values(counting({3, 4})));
    }
}

TEST_F(LoraTest, MatricesMayHaveTheShapeOfConvolutionsOfOnePixel) {
  Tensors tensors = pair("img_in", 2);
  for (auto& [name, tensor] : tensors) tensor = tensor.reshape({tensor.dim(0), tensor.dim(1), 1, 1});
  Checkpoint files = transformer();
  attach_lora(files, lora(tensors), 1, Unmatched::refuse);
  EXPECT_EQ(files.branches.at("img_in").at(0).down.data.shape(), Shape({2, 2}));
  EXPECT_EQ(values(files.branches.at("img_in").at(0).up.data), values(counting({3, 2})));
  tensors["transformer.img_in.lora_A.weight"] = counting({2, 2, 3, 3});
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("[2, 2, 3, 3]"), HasSubstr("a matrix of")));
}

TEST_F(LoraTest, SeveralStandBesideALayer) {
  Checkpoint files = transformer();
  attach_lora(files, lora(pair("img_in", 1)), 2, Unmatched::refuse);
  attach_lora(files, lora(pair("img_in", 5)), -1, Unmatched::refuse);
  ASSERT_EQ(files.branches.at("img_in").size(), 2u);
  EXPECT_EQ(files.branches.at("img_in")[1].down.data.dim(0), 5);
  EXPECT_EQ(files.branches.at("img_in")[1].factor, -1);
}

TEST_F(LoraTest, AlphasOfDiffusersMetadata) {
  const Lora found = lora(joined(pair("img_in", 4), joined(pair(kLayer, 4), pair("txt_in", 4, 12))),
                          {{"lora_adapter_metadata", R"({"transformer.r": 4, "transformer.lora_alpha": 8,
                            "transformer.alpha_pattern": {"^attn.to_out.0$": 2}, "transformer.use_rslora": false})"}});
  EXPECT_EQ(found.layers.at("img_in").factor(), 2);
  EXPECT_EQ(found.layers.at(kLayer).factor(), 0.5);
  EXPECT_EQ(found.layers.at("txt_in").factor(), 3) << "a tensor goes over metadata";
}

TEST_F(LoraTest, AlphasDividedByTheRootOfTheRank) {
  const Lora found = lora(pair("img_in", 4), {{"lora_adapter_metadata", R"({"lora_alpha": 8, "use_rslora": true})"}});
  EXPECT_EQ(found.layers.at("img_in").factor(), 4);
}

TEST_F(LoraTest, AlphasOfPeftsConfigBesideTheFile) {
  write("adapter_config.json", R"({"peft_type": "LORA", "lora_alpha": 3, "alpha_pattern": null, "use_rslora": false})");
  Tensors tensors;
  add_pair(tensors, kLoraSpellings[3], "img_in", {counting({2, 2}), counting({3, 2}), std::nullopt});
  EXPECT_EQ(lora(tensors).layers.at("img_in").factor(), 1.5);
  EXPECT_EQ(lora(pair("img_in", 2)).layers.at("img_in").factor(), 1) << "the config of a file in another spelling";
}

TEST_F(LoraTest, PatternsOfAlphasThatAreNoNamesAreRefused) {
  EXPECT_THAT(error(pair("img_in"), {{"lora_adapter_metadata", R"({"alpha_pattern": {"attn\\.to_.*": 2}})"}}),
              AllOf(HasSubstr("lora.safetensors"), HasSubstr("alpha_pattern"), HasSubstr("not a pattern")));
  EXPECT_THAT(error(pair("img_in"), {{"lora_adapter_metadata", R"({"lora_alpha": "many"})"}}), HasSubstr("lora_alpha"));
  EXPECT_THAT(error(pair("img_in"), {{"lora_adapter_metadata", "{"}}), HasSubstr("lora.safetensors"));
}

TEST_F(LoraTest, UnknownTensorsAreListedUnlessTheyMayBeLeftOut) {
  const Tensors tensors =
      joined(pair("img_in"), joined(pair("blocks.7"), {{"transformer.img_in.dora_scale", counting({3})},
                                                       {"transformer.img_in.lora_B.bias", counting({3})},
                                                       {"transformer.txt_norm.alpha", counting({1})}}));
  EXPECT_THAT(attach_error(tensors),
              AllOf(HasSubstr("lora.safetensors: 5 of its tensors change no layer of"), HasSubstr("t.safetensors"),
                    HasSubstr("blocks.7.lora_A.weight"), HasSubstr("blocks.7.lora_B.weight"), HasSubstr("dora_scale"),
                    HasSubstr("lora_B.bias"), HasSubstr("txt_norm.alpha")));
  Checkpoint files = transformer();
  EXPECT_THAT(attach_lora(files, lora(tensors), 1, Unmatched::leave_out),
              UnorderedElementsAre("transformer.blocks.7.lora_A.weight", "transformer.blocks.7.lora_B.weight",
                                   "transformer.img_in.dora_scale", "transformer.img_in.lora_B.bias",
                                   "transformer.txt_norm.alpha"));
  EXPECT_EQ(files.branches.size(), 1u);
}

TEST_F(LoraTest, LongListsAreCut) {
  Tensors tensors = pair("img_in");
  for (int i = 0; i < 30; ++i) tensors["other." + std::to_string(i)] = counting({1});
  EXPECT_THAT(attach_error(tensors), AllOf(HasSubstr("30 of its tensors"), HasSubstr("and 10 more")));
}

TEST_F(LoraTest, ThatMatchesNothingIsAlwaysAnError) {
  for (const Unmatched unmatched : {Unmatched::refuse, Unmatched::leave_out})
    EXPECT_THAT(attach_error(joined(pair("blocks.7"), pair("txt_norm")), unmatched),
                AllOf(HasSubstr("changes no layer of"), HasSubstr("blocks.7.lora_A"), HasSubstr("txt_norm.lora_B")));
}

TEST_F(LoraTest, ShapesOfAnotherModelAreNamed) {
  Tensors tensors = pair("img_in");
  tensors["transformer.img_in.lora_A.weight"] = counting({1, 5});
  for (const Unmatched unmatched : {Unmatched::refuse, Unmatched::leave_out})
    EXPECT_THAT(attach_error(tensors, unmatched),
                AllOf(HasSubstr("transformer.img_in.lora_A.weight"), HasSubstr("has shape [1, 5]"),
                      HasSubstr("has weights [3, 2]: [1, 2] is needed")));
  tensors = pair("img_in");
  tensors["transformer.img_in.lora_B.weight"] = counting({4, 1});
  EXPECT_THAT(attach_error(tensors), AllOf(HasSubstr("lora_B.weight"), HasSubstr("[4, 1]"), HasSubstr("[3, 1]")));
}

TEST_F(LoraTest, LayersInTwoSpellingsAreRefused) {
  Tensors tensors = pair(kLayer);
  add_pair(tensors, kLoraSpellings[7], kLayer, {counting({1, 2}), counting({3, 1}), std::nullopt});
  EXPECT_THAT(attach_error(tensors), AllOf(HasSubstr(kLayer), HasSubstr("another spelling")));
  tensors = pair("img_in");
  add_pair(tensors, kLoraSpellings[1], "img_in", {counting({1, 2}), counting({3, 1}), std::nullopt});
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("img_in.lora_A.weight"), HasSubstr("for the same")));
}

TEST_F(LoraTest, BrokenPairsAreNamed) {
  Tensors tensors = pair("img_in", 2);
  tensors["transformer.img_in.lora_B.weight"] = counting({3, 3});
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("lora_B.weight"), HasSubstr("[3, 3]"), HasSubstr("has rank 2")));
  tensors.erase("transformer.img_in.lora_B.weight");
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("transformer.img_in.lora_A.weight"), HasSubstr("no other half"),
                                    HasSubstr("lora_B or lora_up")));
  tensors["transformer.img_in.lora_B.weight"] = counting({6});
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("lora_B.weight"), HasSubstr("F32 [6]"), HasSubstr("a matrix of")));
  tensors["transformer.img_in.lora_B.weight"] = host_tensor({3, 0}, DType::f32);
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("lora_B.weight"), HasSubstr("[3, 0]"), HasSubstr("at least 1")));
  tensors["transformer.img_in.lora_B.weight"] = host_tensor({3, 2}, DType::i32);
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("lora_B.weight"), HasSubstr("I32 [3, 2]"), HasSubstr("a matrix of")));
}

template <class T>
Tensor alpha_of(DType type, T value) {
  const Tensor alpha = host_tensor(Shape{}, type);
  *alpha.data<T>() = value;
  return alpha;
}

TEST_F(LoraTest, AlphasMayBeWholeNumbersAndF64) {
  const std::vector<Tensor> fours = {alpha_of<int64_t>(DType::i64, 4), alpha_of<int32_t>(DType::i32, 4),
                                     alpha_of<double>(DType::f64, 4), alpha_of<float>(DType::f32, 4)};
  for (const Tensor& four : fours) {
    Tensors tensors = pair("img_in", 2);
    tensors["transformer.img_in.alpha"] = four;
    write_safetensors(at("lora.safetensors"), tensors);
    EXPECT_EQ(read_lora(at("lora.safetensors")).alphas(), std::set<double>{4}) << name_of(four.dtype());
  }
}

TEST_F(LoraTest, AlphasMustBeOneFiniteNumber) {
  Tensors tensors = pair("img_in", 2, NAN);
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("img_in.alpha"), HasSubstr("is nan")));
  tensors["transformer.img_in.alpha"] = counting({2});
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("img_in.alpha"), HasSubstr("F32 [2]"), HasSubstr("one number")));
  tensors["transformer.img_in.alpha"] = alpha_of<uint8_t>(DType::boolean, 1);
  EXPECT_THAT(error(tensors), AllOf(HasSubstr("img_in.alpha"), HasSubstr("BOOL []"), HasSubstr("one number")));
}

TEST_F(LoraTest, FilesWithoutPairsAreNone) {
  EXPECT_THAT(error({{"x.weight", counting({2, 2})}, {"img_in.alpha", counting({1})}}),
              HasSubstr("is no LoRA: none of its 2 tensors (the first is \"img_in.alpha\") is named"));
  EXPECT_THAT(error({}), HasSubstr("holds no tensors; a LoRA is needed"));
  write("lora.safetensors", "no header");
  EXPECT_THAT(error_of([&] { read_lora(at("lora.safetensors")); }), HasSubstr("lora.safetensors"));
  EXPECT_THAT(error_of([&] { read_lora(at("nowhere.safetensors")); }), HasSubstr("nowhere.safetensors"));
}

}  // namespace
}  // namespace inkstone
