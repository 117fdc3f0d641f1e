// Byte-level BPE of Qwen2 (Qwen2Tokenizer of transformers).
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace inkstone {

/// Turns text into token ids. Immutable after loading; safe to share between threads.
class Tokenizer {
 public:
  /// From a folder with tokenizer.json, or vocab.json + merges.txt (+ tokenizer_config.json or added_tokens.json), or
  /// merges.txt alone (ids then follow from the merges, added tokens are Qwen2.5's); or from one such file, or a text
  /// encoder's GGUF file.
  static Tokenizer load(const std::filesystem::path& path);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of a text; added tokens such as <|im_end|> are recognised inside it. Throws Error for invalid UTF-8, naming
  /// the byte's position.
  std::vector<int32_t> encode(std::string_view text) const;

  /// One more than the greatest id.
  int32_t vocabulary_size() const;

 private:
  struct Data;
  explicit Tokenizer(std::unique_ptr<const Data> data);
  std::unique_ptr<const Data> data_;
};

}  // namespace inkstone
