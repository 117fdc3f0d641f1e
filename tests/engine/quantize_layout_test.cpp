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

TEST_F(LayoutTest, ErrorsAreThoseOfWhatIsReadBack) {
  const Checkpoint source = open_checkpoint(kTransformer, Component::transformer);
  const QuantizeResult result = quantize(for_cpu());
  const Checkpoint made = open_checkpoint(at("out"), Component::transformer);
  size_t mixed = 0;
  for (const QuantizedTensor& t : result.tensors) {
    EXPECT_NEAR(error_read_back(t, source, made), t.error, 1e-9) << t.name;
    EXPECT_LE(t.error, 0.012) << t.name;
    EXPECT_EQ(t.format, "int8");
    mixed += made.packed(layer_of(t))->weight.factors ? 1 : 0;
  }
  EXPECT_EQ(mixed, 8u * 12) << "q, k, v, out, up and down of both streams of every block";
  EXPECT_FALSE(made.packed("transformer_blocks.0.img_mod.1")->weight.factors) << "of a layer that stays exact";
  const auto factors = [&](const std::string& layer) { return made.packed(layer)->weight.factors; };
  const Tensor q = factors("transformer_blocks.1.attn.to_q"), k = factors("transformer_blocks.1.attn.to_k");
  EXPECT_TRUE(std::ranges::equal(q.span<const float>(), k.span<const float>())) << "they read the same inputs";
}

// What is rounded here is what a run rounds: the same codes and factors from the same numbers.
TEST_F(LayoutTest, DrawsWhatRoundingAtTheFirstUseDraws) {
  QuantizeOptions o = for_cpu("int8", kTiny);
  o.keep = {{"*_mod.1.weight", "stored"}, {"model.layers.*", "stored"}};
  quantize(o);
  EXPECT_EQ(drawn({.model = o.output, .arithmetic = Arithmetic::int8}),
            drawn({.model = kTiny, .arithmetic = Arithmetic::int8}));
}

TEST_F(LayoutTest, IsReadByEveryDeviceAndArithmetic) {
  QuantizeOptions o = for_cpu("int8", kTiny);
  quantize(o);
  const Tensor expected = latents(kTiny);
  EXPECT_LE(relative_error(latents(o.output), expected), 0.03);
  for (const EngineOptions& options : {EngineOptions{.model = o.output, .held_as = HeldAs::f32},
                                       EngineOptions{.model = o.output, .device = DeviceKind::reference},
                                       EngineOptions{.model = o.output, .isa = InstructionSet::scalar}})
    EXPECT_LE(largest_difference(drawn(options), drawn({.model = o.output})), 1);
  const json found = json::parse(inspect_json(o.output));
  for (const json& component : found.at("components")) {
    EXPECT_THAT(component.at("missing"), IsEmpty());
    EXPECT_THAT(component.at("surplus"), IsEmpty());
  }
  EXPECT_THAT(found.at("components")[0].at("format").get<std::string>(), HasSubstr("int8 in the cpu's order"));
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
  EXPECT_THAT(error(for_cpu("int4")), AllOf(HasSubstr("layout cpu"), HasSubstr("--format int4")));
  QuantizeOptions o = for_cpu();
  o.layout = "gpu";
  EXPECT_THAT(error(o), HasSubstr("layout \"gpu\": rows or cpu is needed"));
  o = for_cpu("int8", kTiny);
  o.calibrate = write("prompts.txt", "a red star");
  EXPECT_THAT(error(o), HasSubstr("no scales to search"));
  EXPECT_FALSE(fs::exists(o.output));
}

}  // namespace
}  // namespace inkstone
