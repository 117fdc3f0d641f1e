// Engine::encode, and what an engine that is opened for it needs.
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

}  // namespace
}  // namespace inkstone
