#include "model/prompt.h"

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;

const Tokenizer& qwen() {
  static const Tokenizer tokenizer = Tokenizer::load(fs::path(INKSTONE_TEST_DATA) / "tokenizer" / "merges.txt");
  return tokenizer;
}

/// The rows that condition a picture.
Ids kept(const PromptTokens& tokens) { return {tokens.ids.begin() + tokens.dropped, tokens.ids.end()}; }

Ids kept(std::string_view prompt) { return kept(tokenize_prompt(qwen(), prompt, std::nullopt)); }

std::string repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

constexpr int32_t kHead[] = {151644, 8948, 198, 74785, 279, 2168,   553, 44193,  279, 1894,  11,    6083,
                             11,     1379, 11,  10434, 11,  12194,  11,  1467,   11,  27979, 11871, 315,
                             279,    6171, 323, 4004,  25,  151645, 198, 151644, 872, 198};

TEST(Prompt, HasTheTemplatesThirtyFourTokensInFront) {
  const PromptTokens tokens = tokenize_prompt(qwen(), "a cat", std::nullopt);
  EXPECT_EQ(tokens.dropped, 34);
  EXPECT_EQ(tokens.kept(), 7);
  EXPECT_FALSE(tokens.cut);
  EXPECT_THAT(Ids(tokens.ids.begin(), tokens.ids.begin() + 34), ElementsAreArray(kHead));
}

TEST(Prompt, KeepsTheTemplatesLastFiveTokens) {
  EXPECT_THAT(kept(""), ElementsAre(151645, 198, 151644, 77091, 198));
  EXPECT_THAT(kept(" "), ElementsAre(220, 151645, 198, 151644, 77091, 198));
  EXPECT_THAT(kept("a cat"), ElementsAre(64, 8251, 151645, 198, 151644, 77091, 198));
}

TEST(Prompt, ReadsAPromptsFirstNewlineTogetherWithTheTemplates) {
  const PromptTokens tokens = tokenize_prompt(qwen(), "\nfoo", std::nullopt);
  EXPECT_EQ(tokens.dropped, 34);
  EXPECT_EQ(tokens.ids[33], 271) << "two newlines";
  EXPECT_THAT(kept(tokens), ElementsAre(7975, 151645, 198, 151644, 77091, 198));
}

TEST(Prompt, RecognisesAddedTokens) {
  EXPECT_THAT(kept("<|im_end|>x"), ElementsAre(151645, 87, 151645, 198, 151644, 77091, 198));
}

TEST(Prompt, OfTheModelCardsNegativePromptHasFortySevenTokens) {
  EXPECT_EQ(kept("低分辨率，低画质，肢体畸形，手指畸形，画面过饱和，蜡像感，人脸无细节，过度光滑，画面具有AI感。"
                 "构图混乱。文字模糊，扭曲。")
                .size(),
            47u);
}

TEST(Prompt, CountsTheHeadWithTheModelsOwnTokenizer) {
  const Tokenizer tiny = Tokenizer::load(fs::path(INKSTONE_MODELS) / "tiny" / "tokenizer");
  EXPECT_EQ(tokenize_prompt(tiny, "a red star", std::nullopt).dropped, 34);

  const TemporaryFolder folder;
  std::ofstream(folder / "merges.txt") << "a b\n";
  const PromptTokens spelt = tokenize_prompt(Tokenizer::load(folder.path()), "ab", std::nullopt);
  const size_t letters = apply_template("").find("<|im_end|>\n<|im_start|>assistant");
  EXPECT_GT(spelt.dropped, 100) << "letter by letter";
  EXPECT_LT(spelt.dropped, static_cast<int64_t>(letters));
  EXPECT_EQ(spelt.ids[static_cast<size_t>(spelt.dropped)], 256) << "ab";
}

TEST(Prompt, NeedsATokenizerWithTheTemplatesMarkers) {
  const TemporaryFolder folder;
  std::ofstream(folder / "merges.txt") << "a b\n";
  EXPECT_NO_THROW(check_markers(Tokenizer::load(folder.path()), folder.path()));  // Qwen's are added to bare merges
  std::ofstream(folder / "added_tokens.json") << R"({"<|im_start|>": 300})";
  EXPECT_EQ(error_of([&] { check_markers(Tokenizer::load(folder.path()), folder.path()); }),
            folder.path().string() + ": lacks the added token \"<|im_end|>\", which the prompt's template needs");
}

TEST(Prompt, IsCutToTheLimitAndSaysSo) {
  const std::string long_prompt = repeated(" cat", 600);
  const PromptTokens whole = tokenize_prompt(qwen(), long_prompt, std::nullopt);
  EXPECT_EQ(whole.kept(), 605);
  EXPECT_FALSE(whole.cut);
  const PromptTokens cut = tokenize_prompt(qwen(), long_prompt, 512);
  EXPECT_TRUE(cut.cut);
  EXPECT_EQ(cut.kept(), 512);
  EXPECT_EQ(cut.ids, Ids(whole.ids.begin(), whole.ids.begin() + 34 + 512));
  EXPECT_FALSE(tokenize_prompt(qwen(), long_prompt, 605).cut);
  EXPECT_EQ(tokenize_prompt(qwen(), "a cat", 1).ids.back(), 64);
}

TEST(Prompt, OfMoreThanTheModelTakesIsAnErrorUnlessALimitIsGiven) {
  EXPECT_EQ(kept(repeated(" cat", 1019)).size(), 1024u);
  const std::string too_long = repeated(" cat", 1020);
  EXPECT_THAT(error_of([&] { tokenize_prompt(qwen(), too_long, std::nullopt); }),
              AllOf(HasSubstr("1025"), HasSubstr("1024")));
  EXPECT_EQ(tokenize_prompt(qwen(), too_long, 1024).kept(), 1024);
}

TEST(Prompt, RefusesLimitsThatMakeNoSense) {
  for (const int64_t limit : {int64_t{-1}, int64_t{0}, int64_t{1025}, INT64_MAX})
    EXPECT_THAT(error_of([&] { tokenize_prompt(qwen(), "a", limit); }),
                AllOf(HasSubstr(fmt::format("max-sequence-length {}", limit)), HasSubstr("1 to 1024")));
}

TEST(Prompt, NamesTheByteThatIsNotUtf8InThePrompt) {
  EXPECT_THAT(error_of([&] { tokenize_prompt(qwen(), "ab\xff", std::nullopt); }), HasSubstr("byte 2 is 0xff"));
}

}  // namespace
}  // namespace inkstone
