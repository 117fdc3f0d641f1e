// Reads the files of a tokenizer.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "model/bpe.h"

namespace inkstone {

/// A token that is found in a text before everything else, such as <|im_end|>.
struct AddedToken {
  std::string text;
  int32_t id = 0;
};

struct TokenizerModel {
  Bpe bpe;
  std::vector<AddedToken> added;
  int32_t size = 0;  ///< one more than the greatest id
};

/// See Tokenizer::load. Throws Error naming file and field or line, also for files of another kind of tokenizer:
/// another normalisation, splitting pattern or model than Qwen2's.
TokenizerModel read_tokenizer(const std::filesystem::path& path);

}  // namespace inkstone
