// Files in the order of the cpu's kernels.
#include <nlohmann/json.hpp>

#include "engine/quantizing.h"
#include "io/json.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  int largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

class LayoutTest : public QuantizeTest {
 protected:
  QuantizeOptions for_cpu(const std::string& format = "int8", const fs::path& source = kTransformer) const {
    QuantizeOptions o = options(format, source);
    o.layout = "cpu";
    return o;
  }
  static std::vector<uint8_t> drawn(const EngineOptions& options) {
    return Engine::open(options).generate(small_request()).pictures[0].rgb;
  }
};

/// How many matrices lie in the order of the kernels, with errors of at most so much.
size_t mixed_of(const QuantizeResult& result, const fs::path& output, double most_error) {
  const Checkpoint source = open_checkpoint(kTransformer, Component::transformer);
  const Checkpoint made = open_checkpoint(output, Component::transformer);
  size_t mixed = 0;
  for (const QuantizedTensor& t : result.tensors) {
    EXPECT_NEAR(error_read_back(t, source, made), t.error, 1e-9) << t.name;
    EXPECT_LE(t.error, most_error) << t.name;
    mixed += made.packed(layer_of(t))->weight.factors ? 1 : 0;
  }
  return mixed;
}

TEST_F(LayoutTest, ErrorsAreThoseOfWhatIsReadBack) {
  const QuantizeResult result = quantize(for_cpu());
  EXPECT_TRUE(std::ranges::all_of(result.tensors, [](const QuantizedTensor& t) { return t.format == "int8"; }));
  EXPECT_EQ(mixed_of(result, at("out"), 0.012), 8u * 12) << "q, k, v, out, up and down of both streams of every block";
  const Checkpoint made = open_checkpoint(at("out"), Component::transformer);
  EXPECT_FALSE(made.packed("transformer_blocks.0.img_mod.1")->weight.factors) << "of a layer that stays exact";
  const auto factors = [&](const std::string& layer) { return made.packed(layer)->weight.factors; };
  const Tensor q = factors("transformer_blocks.1.attn.to_q"), k = factors("transformer_blocks.1.attn.to_k");
  EXPECT_TRUE(std::ranges::equal(q.span<const float>(), k.span<const float>())) << "they read the same inputs";
}

TEST_F(LayoutTest, ErrorsOf4BitsAreThoseOfWhatIsReadBack) {
  const QuantizeResult result = quantize(for_cpu("int4"));
  EXPECT_EQ(mixed_of(result, at("out"), 0.105), 8u * 12);
  QuantizeOptions rows = options("int4");
  rows.output = at("rows");
  EXPECT_LE(result.tensors.front().error, 1.1 * quantize(rows).tensors.front().error) << "the greatest ones";
}

// What is rounded here is what a run rounds: the same codes and factors from the same numbers.
TEST_F(LayoutTest, DrawsWhatRoundingAtTheFirstUseDraws) {
  QuantizeOptions o = for_cpu("int8", kTiny);
  o.keep = {{"*_mod.1.weight", "stored"}, {"model.layers.*", "stored"}};
  quantize(o);
  EXPECT_EQ(drawn({.model = o.output, .arithmetic = Arithmetic::int8}),
            drawn({.model = kTiny, .arithmetic = Arithmetic::int8}));
}

class LayoutOfTest : public LayoutTest, public ::testing::WithParamInterface<std::pair<const char*, double>> {};
INSTANTIATE_TEST_SUITE_P(Format, LayoutOfTest, ::testing::Values(std::pair{"int8", 0.03}, std::pair{"int4", 0.3}));

TEST_P(LayoutOfTest, IsReadByEveryDeviceAndArithmetic) {
  const auto& [format, most_error] = GetParam();
  const QuantizeOptions o = for_cpu(format, kTiny);
  quantize(o);
  EXPECT_LE(relative_error(latents(o.output), latents(kTiny)), most_error);
  for (const EngineOptions& options : {EngineOptions{.model = o.output, .held_as = HeldAs::f32},
                                       EngineOptions{.model = o.output, .device = DeviceKind::reference},
                                       EngineOptions{.model = o.output, .isa = InstructionSet::scalar}})
    EXPECT_LE(largest_difference(drawn(options), drawn({.model = o.output})), 1);
  const json found = json::parse(inspect_json(o.output));
  for (const json& component : found.at("components")) {
    EXPECT_THAT(component.at("missing"), IsEmpty());
    EXPECT_THAT(component.at("surplus"), IsEmpty());
  }
  EXPECT_THAT(found.at("components")[0].at("format").get<std::string>(),
              HasSubstr(fmt::format("{} in the cpu's order", format)));
}

TEST_F(LayoutTest, LayersWithAMatrixInAnotherFormatKeepTheirRows) {
  QuantizeOptions o = for_cpu();
  o.keep = {{"*.attn.to_v.weight", "bf16"}};
  quantize(o);
  const Checkpoint made = open_checkpoint(o.output, Component::transformer);
  EXPECT_FALSE(made.packed(kQ)->weight.factors);
  EXPECT_TRUE(made.packed("transformer_blocks.0.attn.to_out.0")->weight.factors);
}

TEST_F(LayoutTest, IsPartOfTheRecipe) {
  quantize(for_cpu());
  EXPECT_THAT(error(options("int8")), HasSubstr("with other options"));
  EXPECT_EQ(JsonFile::read(at("out") / "quantization.json").object().at("recipe").at("layout"), "cpu");
}

TEST_F(LayoutTest, WhatItCannotBeIsNamed) {
  EXPECT_THAT(error(for_cpu("fp8")), AllOf(HasSubstr("layout cpu"), HasSubstr("--format fp8")));
  QuantizeOptions o = for_cpu();
  o.layout = "gpu";
  EXPECT_THAT(error(o), HasSubstr("layout \"gpu\": rows or cpu is needed"));
  o = for_cpu("int8", kTiny);
  o.calibrate = write("prompts.txt", "a red star");
  EXPECT_THAT(error(o), HasSubstr("layout cpu mixes the inputs"));
  o = for_cpu();
  o.group = 128;
  EXPECT_THAT(error(o), HasSubstr("group 128: layout cpu has groups of its own"));
  EXPECT_FALSE(fs::exists(o.output));
}

}  // namespace
}  // namespace inkstone
