#include "model/tokenizer.h"

#include "io/files.h"
#include "io/json.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kData = INKSTONE_TEST_DATA;
const fs::path kMerges = kData / "tokenizer" / "merges.txt";
const fs::path kTiny = fs::path(INKSTONE_MODELS) / "tiny" / "tokenizer";

using Ids = std::vector<int32_t>;

/// Qwen2.5's tokenizer, made of its merges alone.
const Tokenizer& qwen() {
  static const Tokenizer tokenizer = Tokenizer::load(kMerges);
  return tokenizer;
}

/// Which ids of a line [text, ids, ids] of the fixture.
enum class Column : uint8_t { qwen = 1, tiny = 2 };

/// Compares with the ids that transformers gives; returns how many texts there were.
size_t compare_lines(const Tokenizer& tokenizer, Column column) {
  const fs::path file = kData / "expected" / "tokens.jsonl";
  std::ifstream lines(file);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const nlohmann::json entry = parse_json(line, file);
    const auto text = entry[0].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), entry[static_cast<size_t>(column)].get<Ids>()) << shown(text);
  }
  return count;
}

TEST(Tokenizer, EncodesAsTransformersDoesWithQwensMerges) { EXPECT_GE(compare_lines(qwen(), Column::qwen), 500u); }

TEST(Tokenizer, EncodesAsTransformersDoesWithTheTinyModelsFiles) {
  EXPECT_GE(compare_lines(Tokenizer::load(kTiny), Column::tiny), 500u);
}

TEST(Tokenizer, GivesTheGoldenIds) {
  EXPECT_THAT(qwen().encode("Hello world"), ElementsAre(9707, 1879));
  EXPECT_THAT(qwen().encode(" Hello world"), ElementsAre(21927, 1879));
  EXPECT_THAT(qwen().encode("  two  spaces "), ElementsAre(220, 1378, 220, 12621, 220));
  EXPECT_THAT(qwen().encode("It's 2024, don't"), ElementsAre(2132, 594, 220, 17, 15, 17, 19, 11, 1513, 944));
  EXPECT_THAT(qwen().encode("cafe\u0301"), ElementsAre(924, 58858));
  EXPECT_THAT(qwen().encode("caf\u00e9"), ElementsAre(924, 58858));
  EXPECT_THAT(qwen().encode("一个穿着\"QWEN\"标志的T恤"),
              ElementsAre(46944, 105611, 1, 48, 54, 953, 1, 101486, 9370, 51, 112259));
  EXPECT_THAT(qwen().encode("π≈3.1415926"), ElementsAre(48245, 144540, 18, 13, 16, 19, 16, 20, 24, 17, 21));
  EXPECT_THAT(qwen().encode("a\n\n  b\t\tc"), ElementsAre(64, 271, 220, 293, 197, 1444));
  EXPECT_THAT(qwen().encode("😊 $2 per cup"), ElementsAre(144236, 400, 17, 817, 10525));
  EXPECT_THAT(qwen().encode("<|im_end|>x"), ElementsAre(151645, 87));
  EXPECT_THAT(qwen().encode("\r\nfoo!!\n\nbar"), ElementsAre(319, 7975, 24796, 2257));
  EXPECT_THAT(qwen().encode("X'LL 'S"), ElementsAre(55, 6, 4086, 364, 50));
  EXPECT_THAT(qwen().encode("\u00a0nbsp"), ElementsAre(4102, 5674));
  EXPECT_THAT(qwen().encode("１２ ½"), ElementsAre(20109, 24918, 220, 26062));
  EXPECT_THAT(qwen().encode(""), ElementsAre());
}

TEST(Tokenizer, KnowsQwen25sAddedTokensButNotQwen3s) {
  EXPECT_THAT(qwen().encode("<|endoftext|>"), ElementsAre(151643));
  EXPECT_THAT(qwen().encode("<|file_sep|>"), ElementsAre(151664));
  EXPECT_EQ(qwen().vocabulary_size(), 151665);
  for (const char* text : {"<think>", "</think>", "<tool_response>", "</tool_response>"})
    EXPECT_GT(qwen().encode(text).size(), 1u) << text;
}

TEST(Tokenizer, NamesTheByteThatIsNotUtf8) {
  const auto error = [](std::string_view text) { return error_of([&] { qwen().encode(text); }); };
  EXPECT_EQ(error("ab\xff"), "the text is not valid UTF-8: byte 2 is 0xff");
  EXPECT_THAT(error("é\xc3("), HasSubstr("byte 2 is 0xc3"));
  EXPECT_THAT(error("\x80"), HasSubstr("byte 0 is 0x80"));
  EXPECT_THAT(error("x\xe4\xb8"), HasSubstr("byte 1 is 0xe4")) << "cut off";
  EXPECT_THAT(error("\xc0\xaf"), HasSubstr("byte 0")) << "overlong";
  EXPECT_THAT(error("\xed\xa0\x80"), HasSubstr("byte 0")) << "a lone surrogate";
  EXPECT_THAT(error("\xf4\x90\x80\x80"), HasSubstr("byte 0")) << "above U+10FFFF";
  EXPECT_THAT(error("<|im_end|>\xfe"), HasSubstr("byte 10"));
}

/// `first`, then each of the parts so many times.
std::string repeated(std::string first, std::initializer_list<std::string_view> parts, size_t times) {
  for (const std::string_view part : parts)
    for (size_t i = 0; i < times; ++i) first += part;
  return first;
}

/// Texts on which an algorithm with quadratic cost would take minutes.
TEST(Tokenizer, EncodesLongMonotonousTexts) {
  constexpr size_t kTimes = 200000;
  for (const char* part : {"a", "ab", " ", "\n", " \n ", "<", "<|", "'s", "1", "哈"})
    EXPECT_GT(qwen().encode(repeated("", {part}, kTimes)).size(), kTimes / 200) << part;
  const Ids ordered = qwen().encode(repeated("a", {"\u0323", "\u0301"}, kTimes));
  EXPECT_EQ(qwen().encode(repeated("a", {"\u0301", "\u0323"}, kTimes)), ordered);
  EXPECT_EQ(qwen().encode(repeated("a", {"\u0301\u0323"}, kTimes)), ordered);
  EXPECT_GT(qwen().encode(repeated("a", {"\u0f73"}, kTimes)).size(), kTimes);
}

/// A small tokenizer in all forms of files. Tokens: the bytes, "ab" = 256, "abc" = 257.
class TokenizerFilesTest : public FolderTest {
 protected:
  /// Spellings of the bytes in the order of their ids, as a vocab.json without its closing brace.
  static nlohmann::json byte_vocabulary() {
    nlohmann::json vocabulary = nlohmann::json::object();
    const nlohmann::json tiny = JsonFile::read(kTiny / "vocab.json").object();
    for (const auto& [token, id] : tiny.items())
      if (id < 256) vocabulary[token] = id;
    return vocabulary;
  }
  static nlohmann::json small_vocabulary() {
    nlohmann::json vocabulary = byte_vocabulary();
    vocabulary["ab"] = 256;
    vocabulary["abc"] = 257;
    return vocabulary;
  }
  /// The tiny model's tokenizer.json around the small vocabulary.
  static nlohmann::json small_tokenizer() {
    nlohmann::json file = JsonFile::read(kTiny / "tokenizer.json").object();
    file["model"]["vocab"] = small_vocabulary();
    file["model"]["merges"] = {"a b", "ab c"};
    file["added_tokens"] = {{{"id", 300}, {"content", "<|x|>"}, {"normalized", false}, {"special", true}}};
    return file;
  }

  Ids encode(const fs::path& path, std::string_view text = "abc<|x|>") const {
    return Tokenizer::load(path).encode(text);
  }
  std::string error() const {
    return error_of([&] { Tokenizer::load(folder_); });
  }
  std::string error_with(const nlohmann::json& tokenizer) const {
    write("tokenizer.json", tokenizer.dump());
    return error();
  }
};

constexpr const char* kMergesText = "#version: 0.2\na b\nab c\n";

TEST_F(TokenizerFilesTest, ReadsTokenizerJsonWithBothFormsOfMerges) {
  nlohmann::json file = small_tokenizer();
  write("tokenizer.json", file.dump());
  EXPECT_THAT(encode(folder_), ElementsAre(257, 300));
  EXPECT_THAT(encode(at("tokenizer.json")), ElementsAre(257, 300));
  EXPECT_EQ(Tokenizer::load(folder_).vocabulary_size(), 301);
  file["model"]["merges"] = nlohmann::json::parse(R"([["a", "b"], ["ab", "c"]])");
  write("tokenizer.json", file.dump());
  EXPECT_THAT(encode(folder_), ElementsAre(257, 300));
}

TEST_F(TokenizerFilesTest, TakesTheIdsOfVocabJson) {
  nlohmann::json vocabulary = small_vocabulary();
  vocabulary["ab"] = 1000;
  vocabulary["abc"] = 7000;
  write("vocab.json", vocabulary.dump());
  write("merges.txt", kMergesText);
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"300": {"content": "<|x|>"}}})");
  EXPECT_THAT(encode(folder_), ElementsAre(7000, 300));
  EXPECT_THAT(encode(folder_, "ab"), ElementsAre(1000));
  EXPECT_EQ(Tokenizer::load(folder_).vocabulary_size(), 7001);
}

TEST_F(TokenizerFilesTest, TakesAddedTokensFromTheOlderFileToo) {
  write("merges.txt", kMergesText);
  write("added_tokens.json", R"({"<|x|>": 301})");
  write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_THAT(encode(folder_), ElementsAre(257, 301));
}

TEST_F(TokenizerFilesTest, NeedsOnlyMerges) {
  const fs::path file = write("merges.txt", "a b\r\nab c");
  EXPECT_THAT(encode(folder_, "abc<|im_end|>"), ElementsAre(257, 260));
  EXPECT_THAT(encode(file, "abc<|im_end|>"), ElementsAre(257, 260));
  EXPECT_EQ(Tokenizer::load(file).vocabulary_size(), 258 + 22);
}

TEST_F(TokenizerFilesTest, AllFormsOfTheTinyModelsFilesAgree) {
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) fs::copy(kTiny / name, at(name));
  EXPECT_GT(compare_lines(Tokenizer::load(folder_), Column::tiny), 0u);
  fs::remove(at("vocab.json"));
  EXPECT_GT(compare_lines(Tokenizer::load(folder_), Column::tiny), 0u);
}

TEST_F(TokenizerFilesTest, PrefersTheLongestAddedToken) {
  nlohmann::json file = small_tokenizer();
  for (const char* text : {"<|", "<|x", "<|x|>>"})
    file["added_tokens"].push_back({{"id", 301 + file["added_tokens"].size()}, {"content", text}});
  write("tokenizer.json", file.dump());
  EXPECT_THAT(encode(folder_, "<|x|>><|x|><|x<|"), ElementsAre(304, 300, 303, 302));
}

TEST_F(TokenizerFilesTest, MergesByRankThenFromTheLeft) {
  write("merges.txt", "b c\na b\na a\naa a\n");
  EXPECT_THAT(encode(folder_, "abc"), ElementsAre(64, 256));  // bc before ab
  EXPECT_THAT(encode(folder_, "abab"), ElementsAre(257, 257));
  EXPECT_THAT(encode(folder_, "aaa"), ElementsAre(259));  // aa + a
  EXPECT_THAT(encode(folder_, "aaaa"), ElementsAre(258, 258));
  EXPECT_THAT(encode(folder_, "aaaaa"), ElementsAre(258, 259));
}

TEST_F(TokenizerFilesTest, NamesWhatIsMissing) {
  EXPECT_THAT(error(), HasSubstr("holds neither tokenizer.json nor merges.txt"));
  const fs::path picture = write("picture.png", "\x89PNG");
  EXPECT_EQ(error_of([&] { Tokenizer::load(picture); }),
            picture.string() + ": is no tokenizer; a tokenizer.json, a merges.txt or a GGUF file is needed");
  EXPECT_THAT(error_of([&] { Tokenizer::load(at("none")); }), AllOf(HasSubstr("none"), HasSubstr("No such file")));
  write("merges.txt", kMergesText);
  nlohmann::json vocabulary = small_vocabulary();
  vocabulary.erase("a");
  write("vocab.json", vocabulary.dump());
  EXPECT_THAT(error(), AllOf(HasSubstr("merges.txt"), HasSubstr("token \"a\" of byte 97 is missing")));
}

TEST_F(TokenizerFilesTest, RefusesMergesThatEndTooEarly) {
  write("vocab.json", small_vocabulary().dump());
  write("merges.txt", kMergesText);
  EXPECT_THAT(encode(folder_, "abc"), ElementsAre(257));
  for (const auto& [text, lost] : {std::pair("#version: 0.2\na b\n", "\"abc\""), std::pair("", "\"ab\"")}) {
    write("merges.txt", text);
    EXPECT_THAT(error(), AllOf(HasSubstr("merges.txt: no merge makes token"), HasSubstr(lost)));
  }
}

TEST_F(TokenizerFilesTest, NamesTheLineOfAMerge) {
  const auto error_of_merges = [&](const std::string& text) {
    write("merges.txt", text);
    return error();
  };
  EXPECT_THAT(error_of_merges("#version: 0.2\na b\nabc\n"), HasSubstr("merges.txt: line 3 is \"abc\"; two tokens"));
  EXPECT_THAT(error_of_merges("a b c\n"), HasSubstr("line 1 is \"a b c\""));
  EXPECT_THAT(error_of_merges("a b\n\nab c\n"), HasSubstr("line 2 is \"\""));
  EXPECT_THAT(error_of_merges("a b\nab xy\n"), HasSubstr("line 2 needs token \"xy\", which is not in the vocabulary"));
  EXPECT_THAT(error_of_merges(" b\n"), HasSubstr("line 1 needs token \"\""));
  EXPECT_THAT(error_of_merges("a b\na b\n"), HasSubstr("line 2 makes token \"ab\" again"));
  EXPECT_THAT(error_of_merges("a \xff\n"), HasSubstr("line 1 needs token"));
  write("vocab.json", small_vocabulary().dump());
  EXPECT_THAT(error_of_merges("a b\na b\n"), HasSubstr("line 2 repeats the merge of \"a\" and \"b\""));
  EXPECT_THAT(error_of_merges("a b\nb c\n"), HasSubstr("line 2 needs token \"bc\""));
}

TEST_F(TokenizerFilesTest, NamesTheFieldOfABrokenVocabulary) {
  write("merges.txt", kMergesText);
  const auto error_of_vocabulary = [&](const char* token, const nlohmann::json& id) {
    nlohmann::json vocabulary = small_vocabulary();
    vocabulary[token] = id;
    write("vocab.json", vocabulary.dump());
    return error();
  };
  EXPECT_THAT(error_of_vocabulary("ab", "256"), AllOf(HasSubstr("vocab.json: field ab"), HasSubstr("an integer")));
  EXPECT_THAT(error_of_vocabulary("ab", -1), HasSubstr("field ab is -1"));
  EXPECT_THAT(error_of_vocabulary("ab", 1 << 24), HasSubstr("from 0 to 16777215"));
  EXPECT_THAT(error_of_vocabulary("new", 256), HasSubstr("id 256 of token"));
  write("vocab.json", "[]");
  EXPECT_THAT(error(), HasSubstr("a JSON object is needed"));
  write("vocab.json", "{");
  EXPECT_THAT(error(), HasSubstr("not valid JSON"));
}

TEST_F(TokenizerFilesTest, NamesTheFieldOfABrokenTokenizerJson) {
  const auto error_at = [&](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json file = small_tokenizer();
    file[nlohmann::json::json_pointer(pointer)] = value;
    return error_with(file);
  };
  EXPECT_THAT(error_at("/model/merges", "a b"), HasSubstr("field model.merges is \"a b\", an array is needed"));
  EXPECT_THAT(error_at("/model/merges/1", "abc"), HasSubstr("field model.merges[1] is \"abc\""));
  EXPECT_THAT(error_at("/model/merges/1", {"ab"}), HasSubstr("field model.merges[1] is [\"ab\"]; two tokens"));
  EXPECT_THAT(error_at("/model/merges/1", {1, 2}), HasSubstr("two tokens are needed"));
  EXPECT_THAT(error_at("/model/merges/1", {"ab", "z"}), HasSubstr("model.merges[1] needs token \"abz\""));
  EXPECT_THAT(error_at("/model/vocab", 3), HasSubstr("field model.vocab is 3, an object"));
  EXPECT_THAT(error_at("/model/vocab/ab", 5), HasSubstr("is another token's"));
  EXPECT_THAT(error_at("/added_tokens/0/id", 2.5), HasSubstr("field added_tokens[0].id is 2.5"));
  EXPECT_THAT(error_at("/added_tokens/0/id", 256), HasSubstr("has id 256, which another token has"));
  EXPECT_THAT(error_at("/added_tokens/0/content", ""), HasSubstr("empty"));
  EXPECT_THAT(error_at("/added_tokens/0/content", 1), HasSubstr("field added_tokens[0].content is 1, a string"));
  EXPECT_THAT(error_at("/added_tokens/1", {{"id", 300}, {"content", "y"}}), HasSubstr("is given twice"));
  EXPECT_THAT(error_at("/added_tokens/1", {{"id", 301}, {"content", "<|x|>"}}), HasSubstr("is given twice"));
  EXPECT_THAT(error_at("/added_tokens/1", 1), HasSubstr("field added_tokens[1] is 1, an object"));
}

TEST_F(TokenizerFilesTest, RefusesAnotherAlgorithm) {
  const auto error_at = [&](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json file = small_tokenizer();
    file[nlohmann::json::json_pointer(pointer)] = value;
    return error_with(file);
  };
  const std::string split = "/pre_tokenizer/pretokenizers/0";
  const std::string bytes = "/pre_tokenizer/pretokenizers/1";
  EXPECT_THAT(error_at("/normalizer/type", "NFKC"), HasSubstr("field normalizer.type is \"NFKC\", \"NFC\" is needed"));
  EXPECT_THAT(error_at("/normalizer", nullptr), HasSubstr("field normalizer is null"));
  EXPECT_THAT(error_at("/model/type", "WordPiece"), HasSubstr("field model.type is \"WordPiece\", \"BPE\""));
  EXPECT_THAT(error_at("/model/dropout", 0.1), HasSubstr("field model.dropout is 0.1"));
  EXPECT_THAT(error_at("/model/unk_token", "<unk>"), HasSubstr("field model.unk_token"));
  EXPECT_THAT(error_at("/model/end_of_word_suffix", "</w>"), HasSubstr("field model.end_of_word_suffix"));
  EXPECT_THAT(error_at("/model/continuing_subword_prefix", "##"), HasSubstr("field model.continuing_subword_prefix"));
  EXPECT_THAT(error_at("/model/byte_fallback", true), HasSubstr("field model.byte_fallback is true"));
  EXPECT_THAT(error_at("/model/ignore_merges", true), HasSubstr("field model.ignore_merges is true"));
  EXPECT_THAT(error_at(split + "/pattern/Regex", "\\s+"), HasSubstr("Regex is \"\\\\s+\", the pattern"));
  EXPECT_THAT(error_at(split + "/behavior", "Removed"), HasSubstr("\"Isolated\" is needed"));
  EXPECT_THAT(error_at(split + "/invert", true), HasSubstr("invert is true"));
  EXPECT_THAT(error_at(split + "/type", "Digits"), HasSubstr("a Sequence of Split and ByteLevel"));
  EXPECT_THAT(error_at(bytes + "/add_prefix_space", true), HasSubstr("add_prefix_space is true"));
  EXPECT_THAT(error_at(bytes + "/use_regex", true), HasSubstr("use_regex false"));
  EXPECT_THAT(error_at("/pre_tokenizer", {{"type", "ByteLevel"}}), HasSubstr("pretokenizers is missing"));
  EXPECT_THAT(error_at("/post_processor/type", "TemplateProcessing"), HasSubstr("which adds no tokens"));
  for (const char* option : {"lstrip", "rstrip", "single_word", "normalized"})
    EXPECT_THAT(error_at(fmt::format("/added_tokens/0/{}", option), true), HasSubstr(option));
}

TEST_F(TokenizerFilesTest, RefusesAnotherTokenizersConfig) {
  write("merges.txt", kMergesText);
  const auto error_of_config = [&](const std::string& config) {
    write("tokenizer_config.json", config);
    return error();
  };
  EXPECT_THAT(error_of_config(R"({"tokenizer_class": "LlamaTokenizer"})"),
              HasSubstr("field tokenizer_class is \"LlamaTokenizer\", \"Qwen2Tokenizer\" is needed"));
  for (const char* option : {"add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"})
    EXPECT_THAT(error_of_config(fmt::format("{{\"{}\": true}}", option)), HasSubstr(option));
  EXPECT_THAT(error_of_config(R"({"added_tokens_decoder": {"one": {"content": "x"}}})"),
              HasSubstr("has \"one\"; an id"));
  EXPECT_THAT(error_of_config(R"({"added_tokens_decoder": {"16777216": {"content": "x"}}})"),
              HasSubstr("below 16777216"));
  EXPECT_THAT(error_of_config(R"({"added_tokens_decoder": {"-1": {"content": "x"}}})"), HasSubstr("has \"-1\""));
  EXPECT_THAT(error_of_config(R"({"added_tokens_decoder": {"300": {}}})"),
              HasSubstr("field added_tokens_decoder.300.content is missing"));
  EXPECT_THAT(error_of_config(R"({"added_tokens_decoder": 3})"), HasSubstr("an object is needed"));
  write("tokenizer_config.json", "{}");
  write("added_tokens.json", R"({"<|x|>": "300"})");
  EXPECT_THAT(error(), AllOf(HasSubstr("added_tokens.json"), HasSubstr("an integer")));
}

TEST_F(TokenizerFilesTest, NoticesABrokenConfigBesideAGoodTokenizer) {
  write("tokenizer.json", small_tokenizer().dump());
  write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_THAT(encode(folder_), ElementsAre(257, 300));
  write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tok)");
  EXPECT_THAT(error(), AllOf(HasSubstr("tokenizer_config.json: "), HasSubstr("not valid JSON")));
  write("tokenizer_config.json", R"({"add_bos_token": true})");
  EXPECT_THAT(error(), HasSubstr("field add_bos_token is true, false is needed"));
}

}  // namespace
}  // namespace inkstone
