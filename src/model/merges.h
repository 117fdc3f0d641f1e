// The merges of a tokenizer, from merges.txt or tokenizer.json.
#pragma once
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "io/json.h"
#include "model/bpe.h"
#include "model/vocabulary.h"

namespace inkstone {

/// Whether the tokens that merges make are in the vocabulary, or are new ones with the next ids.
enum class MergedTokens : uint8_t { known, added };

/// From the lines "left right" of a merges.txt; a first line "#version..." is skipped. Both readers throw Error naming
/// the line or entry that is malformed, repeats a merge, or needs a token that is not in the vocabulary.
Bpe read_merges(const MappedFile& file, Vocabulary& vocabulary, MergedTokens merged);

/// From an array in field `field` of `file`: "left right" in older tokenizer.json and in GGUF, ["left", "right"] in
/// newer ones.
Bpe read_merges(const nlohmann::json& merges, const std::filesystem::path& file, const std::string& field,
                Vocabulary& vocabulary);

}  // namespace inkstone
