// Checks and normalises Unicode text, the first step of Qwen2Tokenizer of transformers.
#pragma once
#include <string>
#include <string_view>

namespace inkstone {

/// Throws Error for a text that is too long for nfc(), or naming the first byte that is not valid UTF-8.
void check_text(std::string_view text);

/// Canonical composition (NFC) of a text that passes check_text(), in time in proportion to its length.
std::string nfc(std::string_view text);

}  // namespace inkstone
