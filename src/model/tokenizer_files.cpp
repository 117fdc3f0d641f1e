#include "model/tokenizer_files.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "io/gguf.h"
#include "model/merges.h"
#include "model/pretokenizer.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxAddedTokens = 4096;

// Qwen2.5's added tokens; their ids follow those of the vocabulary.
constexpr std::array<const char*, 22> kQwenAddedTokens = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>",    "<|quad_start|>", "<|quad_end|>",  "<|vision_start|>",     "<|vision_end|>",     "<|vision_pad|>",
    "<|image_pad|>",  "<|video_pad|>",  "<tool_call>",   "</tool_call>",         "<|fim_prefix|>",     "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>",    "<|repo_name|>", "<|file_sep|>"};

class AddedTokens {
 public:
  explicit AddedTokens(const Vocabulary& ordinary) : ordinary_(ordinary) {}

  /// A token that `file` names.
  void add(const JsonFile& file, const std::string& text, int32_t id) {
    const std::string source = file.path().string();
    check(!text.empty(), "{}: the added token of id {} is empty", source, id);
    check(ordinary_.find(text) == id || !ordinary_.has_id(id), "{}: added token {} has id {}, which another token has",
          source, shown(text), id);
    check(seen_.add(text, id), "{}: added token {} or its id {} is given twice", source, shown(text), id);
    check(tokens_.size() < kMaxAddedTokens, "{}: more than {} added tokens", source, kMaxAddedTokens);
    tokens_.push_back({text, id});
  }

  /// The same from an entry that also says how the token is matched.
  void add_with_options(const JsonFile& token, int32_t id) {
    for (const char* option : {"lstrip", "rstrip", "single_word", "normalized"})
      if (token.boolean_or(option, false)) token.refuse(option, "false (added tokens are matched as they are)");
    add(token, token.text("content"), id);
  }

  void add_qwen() {
    for (const char* text : kQwenAddedTokens)
      tokens_.push_back({text, ordinary_.size() + static_cast<int32_t>(tokens_.size())});
  }

  /// Throws Error naming `merges` for a token of the vocabulary that no text gives: its merge is missing.
  TokenizerModel model(Bpe bpe, const fs::path& merges) {
    int32_t size = ordinary_.size();
    std::vector<bool> made = bpe.reachable(size);
    for (const AddedToken& token : tokens_)
      if (token.id < size) made[static_cast<size_t>(token.id)] = true;
    if (const auto lost = ordinary_.first_unmarked(made))
      fail("{}: no merge makes token {} of the vocabulary; a merge for each of its tokens is needed", merges.string(),
           shown(*lost));
    for (const AddedToken& token : tokens_) size = std::max(size, token.id + 1);
    return {std::move(bpe), std::move(tokens_), size};
  }

 private:
  const Vocabulary& ordinary_;
  Vocabulary seen_;
  std::vector<AddedToken> tokens_;
};

int32_t token_id(const JsonFile& file, const std::string& field) {
  return static_cast<int32_t>(file.integer(field, 0, Vocabulary::kMaxTokens - 1));
}

/// Spelling -> id: a vocab.json, or a tokenizer.json's model.vocab.
Vocabulary read_vocabulary(const JsonFile& tokens) {
  Vocabulary v;
  for (const auto& item : tokens.object().items()) {
    const int32_t id = token_id(tokens, item.key());
    if (!v.add(item.key(), id))
      fail("{}: id {} of token {} is another token's, too", tokens.path().string(), id, shown(item.key()));
  }
  return v;
}

/// Throws Error unless a field is absent, null, or one of `values`.
void need_one_of(const JsonFile& f, const std::string& field, std::initializer_list<json> values) {
  if (!f.has(field) || std::find(values.begin(), values.end(), f.object().at(field)) != values.end()) return;
  std::string wanted = "null";
  for (const json& value : values) wanted += " or " + shown(value);
  f.refuse(field, wanted + " (as Qwen2's tokenizer has it)");
}

void check_splitting(const JsonFile& f) {
  const auto steps = f.child("pre_tokenizer").children("pretokenizers");
  const bool two = steps.size() == 2 && steps[0].text("type") == "Split" && steps[1].text("type") == "ByteLevel";
  if (!two) f.refuse("pre_tokenizer", "a Sequence of Split and ByteLevel");
  const JsonFile pattern = steps[0].child("pattern");
  if (pattern.text("Regex") != kPiecePattern) pattern.refuse("Regex", "the pattern of Qwen2");
  if (steps[0].text("behavior") != "Isolated") steps[0].refuse("behavior", "\"Isolated\"");
  need_one_of(steps[0], "invert", {false});
  need_one_of(steps[1], "add_prefix_space", {false});
  if (steps[1].boolean_or("use_regex", true)) f.refuse("pre_tokenizer", "a ByteLevel with use_regex false");
}

/// Throws Error unless a tokenizer.json describes the algorithm of Qwen2Tokenizer.
void check_algorithm(const JsonFile& f) {
  const JsonFile normalizer = f.child("normalizer");
  if (normalizer.text("type") != "NFC") normalizer.refuse("type", "\"NFC\"");
  check_splitting(f);
  if (f.has("post_processor")) {
    const JsonFile post = f.child("post_processor");
    if (post.text("type") != "ByteLevel") post.refuse("type", "\"ByteLevel\", which adds no tokens");
  }
  const JsonFile model = f.child("model");
  if (model.text("type") != "BPE") model.refuse("type", "\"BPE\"");
  need_one_of(model, "dropout", {0});
  need_one_of(model, "unk_token", {});
  need_one_of(model, "continuing_subword_prefix", {""});
  need_one_of(model, "end_of_word_suffix", {""});
  need_one_of(model, "byte_fallback", {false});
  need_one_of(model, "ignore_merges", {false});
}

/// A folder's tokenizer_config.json; nothing if there is none. Throws Error if it is broken or another tokenizer's.
std::optional<JsonFile> find_options(const fs::path& folder) {
  auto f = JsonFile::read_if_present(folder / "tokenizer_config.json");
  if (!f) return f;
  const std::string kind = f->text_or("tokenizer_class", "Qwen2Tokenizer");
  if (kind != "Qwen2Tokenizer" && kind != "Qwen2TokenizerFast") f->refuse("tokenizer_class", "\"Qwen2Tokenizer\"");
  for (const char* option : {"add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"})
    if (f->boolean_or(option, false)) f->refuse(option, "false");
  return f;
}

TokenizerModel read_tokenizer_json(const fs::path& path) {
  const JsonFile f = JsonFile::read(path);
  check_algorithm(f);
  const JsonFile model = f.child("model");
  Vocabulary vocabulary = read_vocabulary(model.child("vocab"));
  Bpe bpe = read_merges(model.array("merges"), path, "model.merges", vocabulary);
  AddedTokens added(vocabulary);
  for (const JsonFile& token : f.children("added_tokens")) added.add_with_options(token, token_id(token, "id"));
  return added.model(std::move(bpe), path);
}

/// The id that a field's name is.
int32_t id_of_name(const JsonFile& file, const std::string& name) {
  int32_t id = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  const bool good = error == std::errc() && end == name.data() + name.size() && id >= 0 && id < Vocabulary::kMaxTokens;
  check(good, "{}: field added_tokens_decoder has {}; an id below {} is needed", file.path().string(), shown(name),
        Vocabulary::kMaxTokens);
  return id;
}

/// The added tokens that the files beside merges.txt name; false if none does.
bool read_added_tokens(const fs::path& folder, AddedTokens& added) {
  if (const auto f = find_options(folder); f && f->has("added_tokens_decoder")) {
    const JsonFile tokens = f->child("added_tokens_decoder");
    for (const auto& item : tokens.object().items())
      added.add_with_options(tokens.child(item.key()), id_of_name(*f, item.key()));
    return true;
  }
  const auto f = JsonFile::read_if_present(folder / "added_tokens.json");
  if (!f) return false;
  for (const auto& item : f->object().items()) added.add(*f, item.key(), token_id(*f, item.key()));
  return true;
}

/// vocab.json or null, and the merges; `folder` for the added tokens.
TokenizerModel read_separate(const fs::path& merges, const std::optional<JsonFile>& tokens, const fs::path& folder) {
  Vocabulary vocabulary = tokens ? read_vocabulary(*tokens) : Vocabulary::of_bytes();
  Bpe bpe = read_merges(*MappedFile::open(merges), vocabulary, tokens ? MergedTokens::known : MergedTokens::added);
  AddedTokens added(vocabulary);
  if (folder.empty() || !read_added_tokens(folder, added)) added.add_qwen();
  return added.model(std::move(bpe), merges);
}

/// The tokenizer in a GGUF file of llama.cpp.
TokenizerModel read_gguf_tokenizer(const fs::path& path) {
  constexpr int64_t kOrdinary = 1, kControl = 3, kUserDefined = 4, kGreatestType = 6;
  constexpr const char *kModel = "tokenizer.ggml.model", *kSplitting = "tokenizer.ggml.pre";
  constexpr const char *kTokenTypes = "tokenizer.ggml.token_type", *kMerges = "tokenizer.ggml.merges";
  const JsonFile f(path, read_gguf(path).metadata);
  if (!f.has(kModel))
    fail("{}: holds no tokenizer (metadata {}); give a folder with tokenizer.json or merges.txt as the tokenizer",
         path.string(), kModel);
  if (f.text(kModel) != "gpt2") f.refuse(kModel, "\"gpt2\"");
  if (f.text(kSplitting) != "qwen2") f.refuse(kSplitting, "\"qwen2\"");
  const auto tokens = f.texts("tokenizer.ggml.tokens");
  const auto types = f.integers(kTokenTypes, kOrdinary, kGreatestType);
  if (types.size() != tokens.size()) f.refuse(kTokenTypes, fmt::format("a type for each of {} tokens", tokens.size()));

  Vocabulary vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (types[i] == kOrdinary && !vocabulary.add(tokens[i], static_cast<int32_t>(i)))
      fail("{}: token {} is given twice", path.string(), shown(tokens[i]));
  Bpe bpe = read_merges(f.array(kMerges), path, kMerges, vocabulary);
  AddedTokens added(vocabulary);
  for (size_t i = 0; i < tokens.size(); ++i)
    if (types[i] == kControl || types[i] == kUserDefined) added.add(f, tokens[i], static_cast<int32_t>(i));
  return added.model(std::move(bpe), path);
}

bool is_gguf_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && is_gguf(MappedFile::open(path)->bytes());
}

/// A tokenizer.json, a merges.txt, or a GGUF file.
TokenizerModel read_tokenizer_file(const fs::path& path) {
  if (is_gguf_file(path)) return read_gguf_tokenizer(path);
  if (path.extension() == ".json") return read_tokenizer_json(path);
  std::error_code ignored;
  check(path.extension() == ".txt" || !fs::is_regular_file(path, ignored),
        "{}: is no tokenizer; a tokenizer.json, a merges.txt or a GGUF file is needed", path.string());
  return read_separate(path, std::nullopt, {});
}

}  // namespace

TokenizerModel read_tokenizer(const fs::path& path) {
  std::error_code ignored;  // what is no folder is opened as a file, which tells the reason
  if (!fs::is_directory(path, ignored)) return read_tokenizer_file(path);
  if (fs::exists(path / "tokenizer.json", ignored)) {
    find_options(path);  // it has the added tokens itself, but must not contradict the file beside it
    return read_tokenizer_json(path / "tokenizer.json");
  }
  check(fs::exists(path / "merges.txt", ignored), "{}: holds neither tokenizer.json nor merges.txt", path.string());
  return read_separate(path / "merges.txt", JsonFile::read_if_present(path / "vocab.json"), path);
}

}  // namespace inkstone
