// Engine::encode, and what an engine that is opened for it needs.
#include "engine/session.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EncodeTest : public TinyModelTest {
 protected:
  Embeddings encode(const EngineOptions& options) { return Engine::open(options).encode({.prompt = "a cat"}); }
};

TEST_F(EncodeTest, NeedsTextEncoderAndTokenizerOnly) {
  const fs::path model = linked_model();
  for (const char* part : {"transformer", "vae", "scheduler"}) fs::remove(model / part);
  EXPECT_THAT(open_error({.model = model}), HasSubstr((model / "transformer").string()));
  EXPECT_EQ(encode({.model = model, .purpose = Purpose::encode}).values, encode({.model = kTiny}).values);
  fs::remove(model / "model_index.json");
  EXPECT_EQ(encode({.model = model, .purpose = Purpose::encode}).rows, encode({.model = kTiny}).rows);
  fs::remove(model / "tokenizer");
  EXPECT_THAT(open_error({.model = model, .purpose = Purpose::encode}), HasSubstr((model / "tokenizer").string()));
}

TEST_F(EncodeTest, LooksAtNoOtherComponent) {
  const fs::path model = linked_model();
  fs::remove(model / "vae");
  write("model/vae/config.json", "{");
  Engine engine = Engine::open({.model = model, .purpose = Purpose::encode});
  EXPECT_GT(engine.encode({.prompt = "a cat"}).rows, 0);
  EXPECT_THAT(engine.describe(), ElementsAre(HasSubstr("cpu"), HasSubstr("text_encoder: ")));
  EXPECT_THAT(error_of([&] { engine.generate(small_request()); }), HasSubstr("opened to encode"));
}

TEST_F(EncodeTest, TellsOfEveryLayer) {
  Engine engine = Engine::open({.model = kTiny, .purpose = Purpose::encode});
  std::vector<int64_t> steps;
  EncodeRequest request = {.prompt = "a cat"};
  request.progress = [&](const Progress& p) {
    EXPECT_EQ(p.stage, Stage::encode);
    EXPECT_EQ(p.steps, 4);  // num_hidden_layers of models/tiny
    steps.push_back(p.step);
  };
  engine.encode(request);
  EXPECT_THAT(steps, ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(EncodeTest, StopsWithinALayer) {
  Engine engine = Engine::open({.model = kTiny, .held_as = HeldAs::f32, .purpose = Purpose::encode});
  for (const int64_t last : {0, 2}) {  // before the weights are bound, and between layers
    std::stop_source source;
    int64_t told = -1;
    EncodeRequest request = {.prompt = "a cat", .stop = source.get_token()};
    request.progress = [&](const Progress& p) {
      told = p.step;
      if (p.step == last) source.request_stop();
    };
    EXPECT_THROW(engine.encode(request), Cancelled);
    EXPECT_EQ(told, last);
  }
  EXPECT_EQ(engine.encode({.prompt = "a cat"}).values, encode({.model = kTiny}).values);  // none the worse for it
}

// A number that is rounded in a group of normal ones is off by 0.6 % of their size; four layers of it add up.
TEST_F(EncodeTest, IsRoundedOnlyWhereThatWasAskedForByItsOwnName) {
  constexpr double kLeast = 1e-4, kMost = 0.03;
  const auto in = [&](Arithmetic arithmetic) {
    return encode({.model = kTiny, .arithmetic = arithmetic, .purpose = Purpose::encode}).values;
  };
  const std::vector<float> exact = in(Arithmetic::f32);
  EXPECT_EQ(in(Arithmetic::int8), exact);
  const double error = relative_error(in(Arithmetic::int8_all), exact);
  EXPECT_GT(error, kLeast);
  EXPECT_LT(error, kMost);
}

// A layer's rounding costs 0.12 % in FP16 and 0.23 % in bf16.
TEST_F(EncodeTest, IsRoundedTo16BitsOfTheKindThatWasAskedForOrIsFastest) {
  const auto in = [&](Arithmetic arithmetic, InstructionSet isa = InstructionSet::best) {
    return encode({.model = kTiny, .arithmetic = arithmetic, .isa = isa, .purpose = Purpose::encode}).values;
  };
  const EngineOptions half = {.model = kTiny, .arithmetic = Arithmetic::half, .purpose = Purpose::encode};
  const std::string fastest = Engine::open(half).half_kind();
  const std::vector<float> exact = in(Arithmetic::f32), rounded = in(Arithmetic::half);
  EXPECT_EQ(rounded == exact, fastest == "f32") << fastest;
  EXPECT_EQ(Engine::open({.model = kTiny}).half_kind(), "");
  for (const auto& [kind, arithmetic, most] :
       {std::tuple{HalfKind::fp16, Arithmetic::fp16, 0.004}, {HalfKind::bf16, Arithmetic::bf16, 0.008}}) {
    if (half_ops(vector_ops().isa, kind) == nullptr) continue;
    const std::vector<float> values = in(arithmetic);
    const double error = relative_error(values, exact);
    EXPECT_GT(error, 1e-5) << name_of(kind);
    EXPECT_LT(error, most) << name_of(kind);
    if (fastest == name_of(kind)) {
      EXPECT_EQ(values, rounded);
    }
    EXPECT_EQ(open_error({.model = kTiny, .arithmetic = arithmetic, .isa = InstructionSet::scalar}),
              fmt::format("arithmetic {}: this processor has no such products with scalar; half takes the fastest that "
                          "it has",
                          name_of(kind)));
  }
  EXPECT_EQ(in(Arithmetic::half, InstructionSet::scalar), in(Arithmetic::f32, InstructionSet::scalar));
}

TEST_F(EncodeTest, StreamedLayersAreNotTakenForEachOtherInEightBits) {
  const EngineOptions options = {.model = kTiny, .arithmetic = Arithmetic::int8_all};
  const auto encoded = [&](bool streamed) {
    Session session(options);
    if (streamed) session.stream_text_encoder(Caching::cached);
    const std::vector<PromptTokens> prompts = {{.ids = {5, 9, 2, 7}, .dropped = 1}, {.ids = {3, 8}, .dropped = 0}};
    std::vector<float> all;
    for (const Tensor& one : session.encode(prompts, [] {}))
      all.insert(all.end(), one.span<const float>().begin(), one.span<const float>().end());
    return all;
  };
  EXPECT_EQ(encoded(true), encoded(false));
}

// Norms' channels 64 times larger, and the weights that read them smaller in turn: the same function.
TEST_F(EncodeTest, LargeChannelsWithSmallWeightsCostNothingInEightBits) {
  constexpr float kFactor = 64;
  constexpr int64_t kSpacing = 48;
  const fs::path model = linked_model();
  own(model, "text_encoder");
  change_tensors(model / "text_encoder", [](auto& tensors) {
    for (auto& [name, tensor] : tensors) {
      const bool norm = name.find("layernorm") != std::string::npos;
      const bool reads = name.find("self_attn") != std::string::npos && tensor.shape().rank() == 2;
      if (!norm &&
          (name.find(".o_proj") != std::string::npos ||
           !(reads || name.find("gate_proj") != std::string::npos || name.find("up_proj") != std::string::npos)))
        continue;
      Tensor own = host_tensor(tensor.shape(), tensor.dtype());
      std::memcpy(own.data<void>(), tensor.template data<void>(), own.bytes());
      const int64_t width = tensor.dim(tensor.shape().rank() - 1);
      for (int64_t i = 0; i < own.count(); ++i)
        if (bf16_t& x = own.data<bf16_t>()[i]; i % width % kSpacing == 0)
          x = to_bf16(norm ? to_float(x) * kFactor : to_float(x) / kFactor);
      tensor = own;
    }
  });
  const auto error = [&](const fs::path& of) {
    const std::vector<float> exact = encode({.model = of, .purpose = Purpose::encode}).values;
    return relative_error(encode({.model = of, .arithmetic = Arithmetic::int8_all, .purpose = Purpose::encode}).values,
                          exact);
  };
  EXPECT_LT(error(model), 1.1 * error(kTiny));
}

}  // namespace
}  // namespace inkstone
