#include "model/tokenizer.h"

#include <algorithm>
#include <array>

#include "model/normalize.h"
#include "model/pretokenizer.h"
#include "model/tokenizer_files.h"

namespace inkstone {
namespace {

/// Finds added tokens: at each place the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens) {
    for (const AddedToken& token : tokens) by_first_byte_[index(token.text[0])].push_back(token);
    for (auto& list : by_first_byte_)
      std::sort(list.begin(), list.end(),
                [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
  }

  /// The token at the start of `text`, null if there is none.
  const AddedToken* at(std::string_view text) const {
    for (const AddedToken& token : by_first_byte_[index(text[0])])
      if (text.starts_with(token.text)) return &token;
    return nullptr;
  }

 private:
  static size_t index(char c) { return static_cast<unsigned char>(c); }

  std::array<std::vector<AddedToken>, 256> by_first_byte_;  ///< longer ones first
};

/// Appends the ids of text between added tokens.
void encode_ordinary(std::string_view text, BpeEncoder& encoder, std::vector<int32_t>& ids) {
  const std::string composed = nfc(text);
  for (size_t begin = 0; begin < composed.size();) {
    const size_t end = piece_end(composed, begin);
    encoder.encode(std::string_view(composed).substr(begin, end - begin), ids);
    begin = end;
  }
}

}  // namespace

struct Tokenizer::Data {
  explicit Data(TokenizerModel model) : bpe(std::move(model.bpe)), added(model.added), size(model.size) {}

  Bpe bpe;
  AddedTokenFinder added;
  int32_t size;
};

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return Tokenizer(std::make_unique<const Data>(read_tokenizer(path)));
}

Tokenizer::Tokenizer(std::unique_ptr<const Data> data) : data_(std::move(data)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  check_text(text);
  std::vector<int32_t> ids;
  BpeEncoder encoder(data_->bpe);
  size_t begin = 0;  // of what no added token covers
  for (size_t i = 0; i < text.size();) {
    const AddedToken* added = data_->added.at(text.substr(i));
    if (added == nullptr) {
      ++i;
      continue;
    }
    encode_ordinary(text.substr(begin, i - begin), encoder, ids);
    ids.push_back(added->id);
    i += added->text.size();
    begin = i;
  }
  encode_ordinary(text.substr(begin), encoder, ids);
  return ids;
}

int32_t Tokenizer::vocabulary_size() const { return data_->size; }

}  // namespace inkstone
