// Cuts text into the pieces within which byte pairs are merged (PRETOKENIZE_REGEX of transformers).
#pragma once
#include <cstddef>
#include <string_view>

namespace inkstone {

/// The pattern that the pieces match, as tokenizer.json files of Qwen2 and Qwen2.5 have it.
inline constexpr std::string_view kPiecePattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The end of the piece that starts at `begin`: the first alternative of kPiecePattern that matches there. `text` is
/// valid UTF-8 and begin < its size. Cutting a whole text takes time in proportion to its length.
size_t piece_end(std::string_view text, size_t begin);

}  // namespace inkstone
