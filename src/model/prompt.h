// The chat template around a prompt (`_get_qwen_prompt_embeds` of QwenImagePipeline in diffusers).
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace inkstone {

/// The ids that the text encoder reads, and how many leading rows of its output belong to the template.
struct PromptTokens {
  std::vector<int32_t> ids;
  int64_t dropped = 0;
  bool cut = false;  ///< shortened to the caller's limit

  /// Rows that condition the picture.
  int64_t kept() const { return static_cast<int64_t>(ids.size()) - dropped; }
};

/// The most rows that condition a picture (tokenizer_max_length of the pipeline in diffusers).
inline constexpr int64_t kMaxPromptTokens = 1024;

/// The prompt inside the text-to-image template of the pipeline in diffusers.
std::string apply_template(std::string_view prompt);

/// Tokenises the whole templated text. The number of dropped rows is the token count of the template's own head with
/// this tokenizer (34 for Qwen's). Without `limit` a prompt of more than kMaxPromptTokens rows is an Error that names
/// both numbers; with one, rows beyond it are cut. A limit outside 1..kMaxPromptTokens is an Error.
PromptTokens tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt, std::optional<int64_t> limit);

/// The same for a text that errors name, and with a note if it was cut.
PromptTokens tokenize_named(const Tokenizer& tokenizer, std::string_view name, std::string_view text,
                            std::optional<int64_t> limit, std::vector<std::string>& notes);

/// Throws Error naming `source` unless the template's markers are added tokens: they would be read as ordinary text.
void check_markers(const Tokenizer& tokenizer, const std::filesystem::path& source);

}  // namespace inkstone
