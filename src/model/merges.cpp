#include "model/merges.h"

#include <algorithm>

#include "core/error.h"

namespace inkstone {
namespace {

using nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{64} << 20;

struct Merge {
  std::string_view left, right;
};

/// Adds merges in the order of their ranks. `where` is called for the text that begins an error.
class MergeReader {
 public:
  MergeReader(Vocabulary& vocabulary, MergedTokens merged, const std::filesystem::path& file)
      : vocabulary_(vocabulary), merged_(merged), bpe_(vocabulary.byte_ids(file)) {}

  void add(std::string_view merge, const auto& where) {
    const size_t space = merge.find(' ');
    const bool good = space != std::string_view::npos && merge.find(' ', space + 1) == std::string_view::npos;
    if (!good) fail("{} is {}; two tokens with a space between them are needed", where(), shown(std::string(merge)));
    add(Merge{merge.substr(0, space), merge.substr(space + 1)}, where);
  }

  void add(const Merge& merge, const auto& where) {
    const int32_t left = id_of(merge.left, where);
    const int32_t right = id_of(merge.right, where);
    joined_.assign(merge.left).append(merge.right);
    if (merged_ == MergedTokens::added && !add_token()) fail("{} makes token {} again", where(), shown(joined_));
    if (!bpe_.add(left, right, id_of(joined_, where)))
      fail("{} repeats the merge of {} and {}", where(), shown(std::string(merge.left)),
           shown(std::string(merge.right)));
  }

  Bpe take() { return std::move(bpe_); }

 private:
  bool add_token() {
    return vocabulary_.size() < Vocabulary::kMaxTokens && vocabulary_.add(joined_, vocabulary_.size());
  }

  // Texts of errors are made only when needed: a file has 150,000 merges.
  int32_t id_of(std::string_view token, const auto& where) const {
    const int32_t id = vocabulary_.find(token);
    if (id == Vocabulary::kNone)
      fail("{} needs token {}, which is not in the vocabulary", where(), shown(std::string(token)));
    return id;
  }

  Vocabulary& vocabulary_;
  MergedTokens merged_;
  Bpe bpe_;
  std::string joined_;
};

}  // namespace

Bpe read_merges(const MappedFile& file, Vocabulary& vocabulary, MergedTokens merged) {
  const auto bytes = file.bytes();
  check(bytes.size() <= kMaxFileBytes, "{}: {} bytes: a merges file of at most {} is read", file.path().string(),
        bytes.size(), kMaxFileBytes);
  MergeReader reader(vocabulary, merged, file.path());
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (size_t line = 1; !rest.empty(); ++line) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view text = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (line == 1 && text.starts_with("#version")) continue;
    reader.add(text, [&] { return fmt::format("{}: line {}", file.path().string(), line); });
  }
  return reader.take();
}

Bpe read_merges(const json& merges, const std::filesystem::path& file, const std::string& field,
                Vocabulary& vocabulary) {
  MergeReader reader(vocabulary, MergedTokens::known, file);
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& entry = merges[i];
    const auto where = [&] { return fmt::format("{}: field {}[{}]", file.string(), field, i); };
    if (entry.is_string()) {
      reader.add(std::string_view(entry.get_ref<const std::string&>()), where);
      continue;
    }
    const bool pair = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string();
    if (!pair) fail("{} is {}; two tokens are needed", where(), shown(entry));
    reader.add(Merge{entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>()}, where);
  }
  return reader.take();
}

}  // namespace inkstone
