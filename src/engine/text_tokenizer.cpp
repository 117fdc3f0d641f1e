#include "inkstone/inkstone.h"

#include "engine/model.h"
#include "model/normalize.h"
#include "model/prompt.h"

namespace inkstone {

struct TextTokenizer::State {
  Tokenizer tokenizer;
};

TextTokenizer::TextTokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextTokenizer::TextTokenizer(TextTokenizer&&) noexcept = default;
TextTokenizer& TextTokenizer::operator=(TextTokenizer&&) noexcept = default;
TextTokenizer::~TextTokenizer() = default;

TextTokenizer TextTokenizer::open(const std::filesystem::path& path) {
  return TextTokenizer(std::make_unique<State>(State{Tokenizer::load(tokenizer_path(path))}));
}

void TextTokenizer::check_text(std::string_view text) { inkstone::check_text(text); }

std::vector<int32_t> TextTokenizer::encode(std::string_view text) const { return state_->tokenizer.encode(text); }

std::vector<int32_t> TextTokenizer::encode_with_template(std::string_view text) const {
  return state_->tokenizer.encode(apply_template(text));
}

}  // namespace inkstone
