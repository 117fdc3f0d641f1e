#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/generation.h"
#include "engine/quantize_plan.h"
#include "engine/quantizing.h"
#include "io/gguf_writer.h"
#include "io/json.h"
#include "ops/interceptor.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST_F(QuantizeTest, ErrorsAreThoseOfWhatIsReadBack) {
  const Checkpoint source = open_checkpoint(kTransformer, Component::transformer);
  const std::map<std::string, std::pair<WeightFormat, double>> most = {{"int4", {WeightFormat::affine4, 0.11}},
                                                                       {"int8", {WeightFormat::affine8, 0.009}},
                                                                       {"fp8", {WeightFormat::f8_e4m3, 0.03}},
                                                                       {"bf16", {WeightFormat::bf16, 0.002}}};
  for (const auto& [format, expected] : most) {
    SCOPED_TRACE(format);
    QuantizeOptions o = options(format);
    o.output = at(format);
    const QuantizeResult result = quantize(o);
    EXPECT_EQ(named(result, kQ + ".weight").format, format);
    EXPECT_LT(result.bytes, result.source_bytes + 1);
    const Checkpoint made = open_checkpoint(o.output, Component::transformer);
    const auto packed = made.packed(kQ);
    EXPECT_EQ(packed ? packed->weight.format : dense_weight(made.find(kQ + ".weight")->data).format, expected.first);
    for (const QuantizedTensor& t : result.tensors) {
      EXPECT_NEAR(error_read_back(t, source, made), t.error, 1e-9) << t.name;
      EXPECT_LE(t.error, expected.second) << t.name;
    }
    EXPECT_TRUE(std::ranges::is_sorted(result.tensors, std::greater(), &QuantizedTensor::error));
    for (const auto& [name, tensor] : source.tensors) EXPECT_NE(made.find(name), nullptr) << name;
  }
}

TEST_F(QuantizeTest, AModelDrawsNearlyTheSameInEachFormat) {
  const Tensor expected = latents(kTiny);
  const std::map<std::string, double> most = {{"int4", 0.4}, {"int8", 0.03}, {"fp8", 0.15}};
  for (const auto& [format, error] : most) {
    SCOPED_TRACE(format);
    QuantizeOptions o = options(format, kTiny);
    o.output = at(format);
    quantize(o);
    EXPECT_LE(relative_error(latents(o.output), expected), error);
    const json found = json::parse(inspect_json(o.output));
    EXPECT_THAT(found.at("missing"), IsEmpty());
    for (const json& component : found.at("components")) {
      EXPECT_THAT(component.at("missing"), IsEmpty());
      EXPECT_THAT(component.at("surplus"), IsEmpty());
    }
    EXPECT_THAT(found.at("components")[0].at("format").get<std::string>(), HasSubstr(format == "fp8" ? "f8" : format));
  }
}

class CalibrateTest : public QuantizeTest {
 protected:
  QuantizeOptions calibrated(const std::string& prompts, const fs::path& source = kTiny) const {
    write("prompts.txt", prompts);
    QuantizeOptions o = options("int4", source);
    o.calibrate = at("prompts.txt");
    return o;
  }

  static constexpr const char* kLayer = "transformer_blocks.3.img_mlp.net.2";

  /// A model in which some inputs of kLayer are far larger than the others.
  fs::path with_outliers() const {
    const fs::path model = linked_model();
    change_tensors(own(model, "transformer"), [](std::map<std::string, Tensor>& tensors) {
      Tensor& bias = tensors.at("transformer_blocks.3.img_mlp.net.0.proj.bias");
      bias = to_f32(bias);
      for (int64_t i = 7; i < bias.count(); i += 48) bias.data<float>()[i] += 30;
    });
    return model;
  }

  /// What enters kLayer while a picture of another prompt is drawn (rows, in).
  static std::vector<Tensor> inputs_of(const fs::path& model) {
    struct Recorder final : Interceptor {
      Recorder(Kernels& k, std::vector<Tensor>& i) : kernels(k), inputs(i) {}
      void intercept(const Call& call) override {
        for (const LinearPart& part : call.parts)
          if (part.layer->slabs[0].name == kLayer) inputs.push_back(to_f32(part.x));
        call.run(kernels, call.out);
      }
      Kernels& kernels;
      std::vector<Tensor>& inputs;
    };
    std::vector<Tensor> inputs;
    Session session({.model = model}, [&](Kernels& k) { return std::make_unique<Recorder>(k, inputs); });
    generate(session, small_request("two green stars"), 0);
    return inputs;
  }

  /// Relative error of the layer's output with the weights of a folder.
  static double output_error(const std::vector<Tensor>& inputs, const fs::path& made) {
    const std::vector<float> exact = matrix_of(open_checkpoint(kTransformer, Component::transformer), kLayer),
                             rounded = matrix_of(open_checkpoint(made / "transformer", Component::transformer), kLayer);
    const auto in = static_cast<size_t>(inputs.front().dim(1));
    double errors = 0, outputs = 0;
    for (const Tensor& x : inputs)
      for (int64_t row = 0; row < x.dim(0); ++row)
        for (size_t o = 0; o < exact.size(); o += in) {
          double y = 0, error = 0;
          for (size_t i = 0; i < in; ++i) {
            const double number = x.data<float>()[static_cast<size_t>(row) * in + i];
            y += number * exact[o + i];
            error += number * (double{rounded[o + i]} - exact[o + i]);
          }
          errors += error * error;
          outputs += y * y;
        }
    return std::sqrt(errors / outputs);
  }
};

TEST_F(CalibrateTest, OutputsOfALayerWithOutliersAreNearerToTheExactOnes) {
  const fs::path model = with_outliers();
  QuantizeOptions plain = options("int4", model), weighted = calibrated("a red circle\n\nthe word INK\n", model);
  plain.output = at("plain");
  const QuantizeResult without = quantize(plain), with = quantize(weighted);
  const std::string name = std::string(kLayer) + ".weight";
  EXPECT_FALSE(named(without, name).weighted);
  EXPECT_TRUE(named(with, name).weighted);
  EXPECT_TRUE(named(with, "model.layers.0.self_attn.q_proj.weight").weighted);
  EXPECT_FALSE(named(with, "transformer_blocks.7.txt_mlp.net.2.weight").weighted) << "no picture passes it";

  const std::vector<Tensor> inputs = inputs_of(model);
  ASSERT_FALSE(inputs.empty());
  EXPECT_LT(output_error(inputs, weighted.output), 0.75 * output_error(inputs, plain.output));
}

TEST_F(CalibrateTest, GoesOnOnlyWithTheSamePrompts) {
  QuantizeOptions o = calibrated("a red circle");
  const QuantizeResult first = quantize(o);
  const auto time = fs::last_write_time(o.output / "transformer" / "quantization.json");
  const QuantizeResult again = quantize(o);
  EXPECT_EQ(fs::last_write_time(o.output / "transformer" / "diffusion_pytorch_model.safetensors") <= time, true);
  EXPECT_EQ(again.tensors.front().weighted, first.tensors.front().weighted);
  EXPECT_THAT(error(calibrated("a blue circle")), HasSubstr("other options"));
  o.calibrate.clear();
  EXPECT_THAT(error(o), HasSubstr("other options"));
}

TEST_F(CalibrateTest, FaultsAreNamedBeforeAnythingIsWritten) {
  EXPECT_THAT(error(calibrated("")), AllOf(HasSubstr("prompts.txt"), HasSubstr("holds no prompt")));
  EXPECT_THAT(error(calibrated(" \n\n")), HasSubstr("holds no prompt"));
  EXPECT_THAT(error(calibrated("a star\n\xff\xfe\n")), AllOf(HasSubstr("prompts.txt: line 2"), HasSubstr("UTF-8")));
  std::string much;
  for (int i = 0; i < 2000; ++i) much += " star";
  EXPECT_THAT(error(calibrated("a star\n\n" + much)), AllOf(HasSubstr("line 3"), HasSubstr("tokens")));
  EXPECT_THAT(error(calibrated("a star", kTransformer)), HasSubstr("is not a model's folder"));
  QuantizeOptions o = calibrated("a star");
  o.format = "fp8";
  EXPECT_THAT(error(o), HasSubstr("fp8 has no scales to search"));
  o = options("int4", kTiny);
  o.calibrate = at("nowhere.txt");
  EXPECT_THAT(error(o), HasSubstr("nowhere.txt"));
  EXPECT_FALSE(fs::exists(at("out")));
}

TEST_F(QuantizeTest, GroupsHaveTheSizeAskedFor) {
  const Checkpoint source = open_checkpoint(kTransformer, Component::transformer);
  for (const int64_t group : {32, 64, 128}) {
    QuantizeOptions o = options("int4");
    o.output = at(std::to_string(group));
    o.group = group;
    quantize(o);
    const auto packed = open_checkpoint(o.output, Component::transformer).packed(kQ);
    const int64_t in = (*source.shape_of(kQ + ".weight"))[1];
    ASSERT_EQ(packed.has_value(), in % group == 0) << "rows that groups do not divide are kept";
    EXPECT_EQ(packed ? packed->weight.group : group, group);
  }
}

TEST_F(QuantizeTest, PatternsChooseFormatsAndTheLastOneCounts) {
  QuantizeOptions o = options("int4");
  o.keep = {{"*.attn.*", "int8"}, {"*.to_q.weight", "fp8"}, {"proj_out.*", "f32"}, {"*img_mod*", "stored"}};
  const QuantizeResult result = quantize(o);
  EXPECT_EQ(named(result, kQ + ".weight").format, "fp8");
  EXPECT_EQ(named(result, "transformer_blocks.0.attn.to_k.weight").format, "int8");
  EXPECT_EQ(named(result, "transformer_blocks.0.img_mlp.net.2.weight").format, "int4");
  const Checkpoint made = open_checkpoint(o.output, Component::transformer);
  EXPECT_EQ(made.find("proj_out.weight")->data.dtype(), DType::f32);
  const Checkpoint source = open_checkpoint(kTransformer, Component::transformer);
  const std::string modulation = "transformer_blocks.0.img_mod.1.weight";
  EXPECT_EQ(made.find(modulation)->data.dtype(), source.find(modulation)->data.dtype());
}

TEST_F(QuantizeTest, TheEndsOfTheTransformerAndTheTokenTableAreKept) {
  quantize(options("int4"));
  const Checkpoint made = open_checkpoint(at("out"), Component::transformer);
  for (const char* layer : {"img_in", "txt_in", "proj_out", "norm_out.linear"})
    EXPECT_FALSE(made.packed(layer)) << layer;
  QuantizeOptions text = options("int4", kTextEncoder);
  text.output = at("text");
  quantize(text);
  EXPECT_FALSE(open_checkpoint(text.output, Component::text_encoder).packed("model.embed_tokens"));
}

TEST_F(QuantizeTest, PackedSourcesAreReadToo) {
  QuantizeOptions o = options("int8", fs::path(INKSTONE_TEST_DATA) / "random_mlx" / "transformer");
  o.group = 32;
  const QuantizeResult result = quantize(o);
  EXPECT_THAT(result.tensors, Not(IsEmpty()));
  const Checkpoint source = open_checkpoint(o.source, Component::transformer);
  const Checkpoint made = open_checkpoint(o.output, Component::transformer);
  EXPECT_LT(relative_error(matrix_of(made, kQ), matrix_of(source, kQ)), 0.009);
}

TEST_F(QuantizeTest, WhatNoPromptNeedsIsLeftOut) {
  const fs::path model = linked_model();
  change_tensors(own(model, "text_encoder"), [](auto& tensors) { tensors["lm_head.weight"] = counting({4, 64}); });
  const QuantizeResult result = quantize(options("int4", model / "text_encoder"));
  EXPECT_THAT(result.notes, Contains(HasSubstr("tensors that no prompt needs are left out")));
  EXPECT_EQ(open_checkpoint(at("out"), Component::text_encoder).find("lm_head.weight"), nullptr);
}

/// So that the copy is refused as the source is.
TEST_F(QuantizeTest, WhatNobodyKnowsIsKept) {
  const fs::path model = linked_model();
  change_tensors(own(model, "text_encoder"), [](auto& tensors) {
    for (const char* name : {"lm_head.weight", "lm_head.strange", "lm_head_of_another.weight"})
      tensors[name] = counting({4, 64});
  });
  quantize(options("int4", model / "text_encoder"));
  const Checkpoint made = open_checkpoint(at("out"), Component::text_encoder);
  EXPECT_EQ(made.find("lm_head.weight"), nullptr);
  EXPECT_NE(made.find("lm_head.strange"), nullptr);
  EXPECT_NE(made.find("lm_head_of_another.weight"), nullptr);
}

TEST_F(QuantizeTest, AStoppedRunGoesOnAndGivesTheSameFiles) {
  QuantizeOptions whole = options("int4", kTiny);
  whole.output = at("whole");
  quantize(whole);

  QuantizeOptions o = options("int4", kTiny);
  std::stop_source source;
  o.stop = source.get_token();
  o.progress = [&](const Progress& p) {
    if (p.step > 0) source.request_stop();
  };
  EXPECT_THROW(quantize(o), Cancelled);
  for (const auto& entry : fs::recursive_directory_iterator(o.output))
    EXPECT_THAT(entry.path().filename().string(), AllOf(Not(EndsWith(".part")), Not(EndsWith(".tmp"))));

  o.stop = {};
  o.progress = {};
  quantize(o);
  for (const char* name : {"transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
                           "transformer/quantization.json", "transformer/config.json", "model_index.json"})
    EXPECT_EQ(read(o.output / name), read(whole.output / name)) << name;
}

TEST_F(QuantizeTest, AFinishedRunIsNotDoneAgain) {
  const QuantizeResult first = quantize(options("int8"));
  const fs::path file = at("out") / "diffusion_pytorch_model.safetensors";
  const auto written = fs::last_write_time(file);
  write("out/.diffusion_pytorch_model.safetensors.part", "left by a killed run");
  const QuantizeResult again = quantize(options("int8"));
  EXPECT_EQ(fs::last_write_time(file), written);
  EXPECT_EQ(again.tensors.size(), first.tensors.size());
  EXPECT_EQ(again.tensors.front().error, first.tensors.front().error);
}

TEST_F(QuantizeTest, AnotherRecipeIsRefused) {
  quantize(options("int8"));
  EXPECT_THAT(error(options("int4")), AllOf(HasSubstr("out"), HasSubstr("with other options; give another output")));
  fs::remove(at("out") / "quantization.json");
  EXPECT_THAT(error(options("int8")), HasSubstr("is there already, and no quantization.json tells of it"));
}

TEST_F(QuantizeTest, TheReportTellsTheRecipe) {
  QuantizeOptions o = options("int8");
  o.keep = {{"proj_out.*", "bf16"}};
  quantize(o);
  const json report = JsonFile::read(at("out") / "quantization.json").object();
  EXPECT_EQ(report.at("recipe").at("format"), "int8");
  EXPECT_EQ(report.at("recipe").at("keep"), json::array({"proj_out.*=bf16"}));
  EXPECT_GT(report.at("tensors").at(kQ + ".weight").at("relative_error"), 0.0);
}

TEST_F(QuantizeTest, ProgressReachesItsEnd) {
  QuantizeOptions o = options("bf16");
  std::vector<Progress> all;
  o.progress = [&](const Progress& p) { all.push_back(p); };
  quantize(o);
  ASSERT_GE(all.size(), 2u);
  EXPECT_EQ(all.front().step, 0);
  EXPECT_EQ(all.back().step, all.back().steps);
}

TEST_F(QuantizeTest, OptionsOutOfRangeAreNamed) {
  EXPECT_THAT(error(options("int3")), AllOf(HasSubstr("\"int3\""), HasSubstr("int4, int8, fp8, bf16")));
  EXPECT_THAT(error(options("stored")), HasSubstr("format stored"));
  QuantizeOptions o = options("int4");
  o.group = 48;
  EXPECT_THAT(error(o), HasSubstr("group 48: 32, 64 or 128"));
  o = options("int4");
  o.keep = {{"*", "int5"}};
  EXPECT_THAT(error(o), AllOf(HasSubstr("keep"), HasSubstr("\"int5\"")));
}

TEST_F(QuantizeTest, PatternsThatMatchNothingAreRefused) {
  QuantizeOptions o = options("int4");
  o.keep = {{"proj_out.*", "bf16"}, {"*.to_p.*", "int8"}};
  EXPECT_THAT(error(o), HasSubstr("keep *.to_p.*=int8: no tensor of"));
  EXPECT_FALSE(fs::exists(o.output));
}

TEST_F(QuantizeTest, PatternsStandForAnyText) {
  for (const char* pattern : {"a.b.c", "*", "**", "a*", "*c", "a*c", "*b*", "a.*.c", "*.*.*", "a.b.c*", "*a.b.c"})
    EXPECT_TRUE(matches(pattern, "a.b.c")) << pattern;
  for (const char* pattern : {"", "a", "b*", "*b", "a*b", "a.b.c.*", "*a*a*", "a.b*.b.c", "*cc", "*.c.*"})
    EXPECT_FALSE(matches(pattern, "a.b.c")) << pattern;
  std::string many = "b";
  for (int i = 0; i < 40; ++i) many = "*a" + many;  // would take for ever if each star tried every place
  EXPECT_FALSE(matches(many, std::string(100, 'a')));
}

TEST_F(QuantizeTest, OutputsThatCannotBeAreRefused) {
  QuantizeOptions o = options("int4");
  o.output = write("file", "");
  EXPECT_THAT(error(o), HasSubstr("is a file; a folder is needed"));
  o.output = kTransformer;
  EXPECT_THAT(error(o), HasSubstr("holds the source; another folder is needed"));
  o.output = "";
  EXPECT_THAT(error(o), HasSubstr("output: a folder is needed"));
}

TEST_F(QuantizeTest, ADiskWithoutRoomIsToldBeforeAnythingIsWritten) {
  constexpr int64_t kRows = int64_t{1} << 21, kWidth = int64_t{1} << 20;  // 8 TB, none of which the file takes
  std::vector<SafetensorsEntry> entries = {{.name = "img_in.weight", .dtype = DType::f32, .shape = {2, 64}},
                                           {.name = kQ + ".weight", .dtype = DType::f32, .shape = {kRows, kWidth}}};
  const std::string head = place_safetensors(entries, {});
  const fs::path source = write("huge.safetensors", head);
  std::error_code error;
  fs::resize_file(source, entries.back().end, error);
  if (error) GTEST_SKIP() << "no file of 8 TB here: " << error.message();
  QuantizeOptions o = options("bf16", source);
  std::stop_source stop;  // without the check it would fill the disk
  o.stop = stop.get_token();
  o.progress = [&](const Progress&) { stop.request_stop(); };
  EXPECT_THAT(this->error(o), AllOf(HasSubstr("bytes are needed on its disk"), HasSubstr("free")));
  EXPECT_FALSE(fs::exists(at("out")));
}

TEST_F(QuantizeTest, SourcesWithoutMatricesAreRefused) {
  write_safetensors(at("other.safetensors"), {{"x.weight", counting({2, 64})}});
  EXPECT_THAT(error(options("int4", at("other.safetensors"))), HasSubstr("holds no transformer and no text encoder"));
  EXPECT_THAT(error(options("int4", at("nothing"))),
              HasSubstr("nothing: no such file or folder; a transformer's or text encoder's weights are needed"));
  EXPECT_THAT(error(options("int4", kTiny / "vae")), HasSubstr("vae: holds a VAE alone, which is not converted"));
}

TEST_F(QuantizeTest, NumbersThatAreNotFiniteAreNamedAndNothingIsLeft) {
  const fs::path model = linked_model();
  change_tensors(own(model, "transformer"), [](auto& tensors) {
    Tensor& q = tensors.at(kQ + ".weight");
    const Tensor wide = to_f32(q);
    wide.data<float>()[5] = INFINITY;
    q = wide;
  });
  for (const char* format : {"int4", "fp8", "bf16"}) {
    QuantizeOptions o = options(format, model / "transformer");
    o.output = at(format);
    EXPECT_THAT(error(o), AllOf(HasSubstr(kQ), HasSubstr("a number that is not finite")));
    EXPECT_THAT(names_in(o.output), Each(Not(EndsWith("part"))));
    EXPECT_FALSE(fs::exists(o.output / "diffusion_pytorch_model.safetensors"));
  }
}

TEST_F(QuantizeTest, BrokenPacksAreNamed) {
  quantize(options("int4"));
  const fs::path file = at("out") / "diffusion_pytorch_model.safetensors";
  std::map<std::string, Tensor> sound;
  for (const auto& [name, stored] : read_safetensors(file).tensors) sound[name] = stored.data;
  const auto broken = [&](const std::function<void(std::map<std::string, Tensor>&)>& change) {
    auto tensors = sound;
    change(tensors);
    write_safetensors(at("broken.safetensors"), tensors);
    return error_of([&] { open_checkpoint(at("broken.safetensors"), Component::transformer).packed(kQ); });
  };
  EXPECT_THAT(broken([](auto& t) { t.erase(kQ + ".scales"); }), HasSubstr(kQ + ".scales is missing"));
  EXPECT_THAT(broken([](auto& t) { t.erase(kQ + ".offsets"); }), HasSubstr(kQ + ".offsets is missing"));
  EXPECT_THAT(broken([](auto& t) { t[kQ + ".scales"] = counting({2, 3}); }), HasSubstr("equal shapes"));
  EXPECT_THAT(broken([](auto& t) { t[kQ + ".weight"] = counting({2, 64}); }), HasSubstr("codes must be U32"));
  EXPECT_THAT(broken([](auto& t) { t[kQ + ".offsets"] = host_tensor({1, 1}, DType::i8); }), HasSubstr("is I8"));
}

}  // namespace
}  // namespace inkstone
