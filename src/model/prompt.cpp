#include "model/prompt.h"

#include <algorithm>
#include <array>

#include "core/option_error.h"
#include "model/normalize.h"

namespace inkstone {
namespace {

// prompt_template_encode of QwenImagePipeline in diffusers, before and after the prompt.
constexpr std::string_view kHead =
    "<|im_start|>system\n"
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:<|im_end|>\n"
    "<|im_start|>user\n";
constexpr std::string_view kTail = "<|im_end|>\n<|im_start|>assistant\n";

constexpr std::array<std::string_view, 2> kMarkers = {"<|im_start|>", "<|im_end|>"};

}  // namespace

std::string apply_template(std::string_view prompt) { return std::string(kHead).append(prompt).append(kTail); }

PromptTokens tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt, std::optional<int64_t> limit) {
  check_option(!limit || (*limit >= 1 && *limit <= kMaxPromptTokens), "max-sequence-length {}: 1 to {} work",
               limit.value_or(0), kMaxPromptTokens);
  check_text(prompt);  // before the template shifts its bytes
  // As one text: the newline before the prompt merges with newlines that it starts with, and the drop is positional.
  PromptTokens tokens{.ids = tokenizer.encode(apply_template(prompt)),
                      .dropped = static_cast<int64_t>(tokenizer.encode(kHead).size())};
  check(tokens.kept() > 0, "the tokenizer leaves no tokens after the template's {}", tokens.dropped);
  check(limit || tokens.kept() <= kMaxPromptTokens,
        "the prompt has {} tokens with the end of its template; at most {} condition a picture (max-sequence-length "
        "cuts longer ones)",
        tokens.kept(), kMaxPromptTokens);
  if (limit && tokens.kept() > *limit) {
    tokens.ids.resize(static_cast<size_t>(tokens.dropped + *limit));
    tokens.cut = true;
  }
  return tokens;
}

PromptTokens tokenize_named(const Tokenizer& tokenizer, std::string_view name, std::string_view text,
                            std::optional<int64_t> limit, std::vector<std::string>& notes) {
  try {
    PromptTokens tokens = tokenize_prompt(tokenizer, text, limit);
    if (tokens.cut) notes.push_back(fmt::format("the {} was cut to {} tokens", name, tokens.kept()));
    return tokens;
  } catch (const OptionError&) {
    throw;
  } catch (const Error& e) {
    std::string option(name);
    std::ranges::replace(option, ' ', '-');
    fail_option("{}: {}", option, e.what());
  }
}

void check_markers(const Tokenizer& tokenizer, const std::filesystem::path& source) {
  for (const std::string_view marker : kMarkers)
    check(tokenizer.encode(marker).size() == 1, "{}: lacks the added token \"{}\", which the prompt's template needs",
          source.string(), marker);
}

}  // namespace inkstone
