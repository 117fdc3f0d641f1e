// Prompts kept on disk: another engine finds them, and whatever is wrong with them costs no more than encoding again.
#include <fstream>
#include <gmock/gmock.h>

#include "engine/tiny_model.h"

namespace inkstone {
namespace {

class PromptStoreTest : public TinyModelTest {
 protected:
  EngineOptions options() const { return {.model = kTiny, .prompt_cache = at("cache")}; }

  struct Drawn {
    std::vector<uint8_t> rgb;
    bool encoded = false;  ///< the text encoder ran
  };
  static Drawn draw(const EngineOptions& options, const std::string& prompt = "a red circle") {
    Drawn drawn;
    Request request = small_request(prompt);
    request.progress = [&](const Progress& p) { drawn.encoded |= p.stage == Stage::encode && p.steps > 0; };
    drawn.rgb = Engine::open(options).generate(request).pictures.front().rgb;
    return drawn;
  }

  std::vector<fs::path> kept() const {
    std::vector<fs::path> all;
    for (const auto& entry : fs::directory_iterator(at("cache"))) all.push_back(entry.path());
    return all;
  }
};

TEST_F(PromptStoreTest, AnotherEngineNeedsNoTextEncoderForTheSamePrompt) {
  const Drawn first = draw(options());
  EXPECT_TRUE(first.encoded);
  EXPECT_EQ(kept().size(), 2u);  // the prompt and the empty negative one
  const Drawn second = draw(options());
  EXPECT_FALSE(second.encoded);
  EXPECT_EQ(second.rgb, first.rgb);
  EXPECT_TRUE(draw(options(), "a blue square").encoded);
  EXPECT_EQ(kept().size(), 3u);
}

TEST_F(PromptStoreTest, KeepsNothingUnlessAsked) {
  EXPECT_TRUE(draw({.model = kTiny}).encoded);
  EXPECT_TRUE(draw({.model = kTiny}).encoded);
}

TEST_F(PromptStoreTest, AnotherTextEncoderOrTypeIsAnotherPrompt) {
  const fs::path model = linked_model();
  own(model, "text_encoder");
  EngineOptions other = options();
  other.model = model;
  draw(other);
  EXPECT_FALSE(draw(other).encoded);
  change_tensors(model / "text_encoder", [](auto& tensors) {
    Tensor& norm = tensors.at("model.norm.weight");
    norm = host_tensor(norm.shape(), norm.dtype());
    std::fill_n(norm.template data<char>(), norm.bytes(), 0);
  });
  EXPECT_TRUE(draw(other).encoded);
  other.held_as = HeldAs::f32;
  EXPECT_TRUE(draw(other).encoded);
}

TEST_F(PromptStoreTest, AnotherArithmeticOfTheTextEncoderIsAnotherPrompt) {
  EngineOptions other = options();
  draw(other);
  other.arithmetic = Arithmetic::int8;  // in which it stays as it is
  EXPECT_FALSE(draw(other).encoded);
  for (const Arithmetic arithmetic : {Arithmetic::int8_all, Arithmetic::half}) {
    other.arithmetic = arithmetic;
    EXPECT_EQ(draw(other).encoded, Engine::open(other).half_kind() != "f32");
    EXPECT_FALSE(draw(other).encoded);
  }
  EXPECT_FALSE(draw(options()).encoded);
}

TEST_F(PromptStoreTest, AnotherConfigurationIsAnotherPrompt) {
  const fs::path model = linked_model();
  const fs::path config = own(model, "text_encoder") / "config.json";
  EngineOptions other = options();
  other.model = model;
  draw(other);
  std::string text = read(config);
  const std::string eps = "\"rms_norm_eps\": 1e-06";
  ASSERT_NE(text.find(eps), std::string::npos);
  write("model/text_encoder/config.json", text.replace(text.find(eps), eps.size(), "\"rms_norm_eps\": 1e-03"));
  EXPECT_TRUE(draw(other).encoded);
}

TEST_F(PromptStoreTest, EncodesAgainWhatWasBroken) {
  const Drawn first = draw(options());
  for (const fs::path& path : kept()) fs::resize_file(path, fs::file_size(path) / 2);
  const Drawn second = draw(options());
  EXPECT_TRUE(second.encoded);
  EXPECT_EQ(second.rgb, first.rgb);
  EXPECT_FALSE(draw(options()).encoded);
}

TEST_F(PromptStoreTest, StaysWithinItsBytes) {
  draw(options(), "a large blue square on a green background");
  size_t bytes = 0;
  for (const fs::path& path : kept()) bytes += fs::file_size(path);
  EngineOptions bounded = options();
  bounded.prompt_cache_bytes = bytes;
  draw(bounded);  // a shorter prompt, so that it fits once the first one is gone
  size_t after = 0;
  for (const fs::path& path : kept()) after += fs::file_size(path);
  EXPECT_LE(after, bytes);
  EXPECT_FALSE(draw(bounded).encoded);
}

TEST_F(PromptStoreTest, ACacheThatCannotBeWrittenIsNoError) {
  std::ofstream(at("file")) << "no folder";
  EngineOptions blocked = options();
  blocked.prompt_cache = at("file") / "cache";
  EXPECT_TRUE(draw(blocked).encoded);
}

}  // namespace
}  // namespace inkstone
