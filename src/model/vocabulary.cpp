#include "model/vocabulary.h"

#include "core/error.h"
#include "io/json.h"

namespace inkstone {
namespace {

struct ByteSpelling {
  unsigned char byte;
  std::string text;
};

/// A code point below U+0800 in UTF-8.
std::string utf8(unsigned code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

bool stands_for_itself(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/// All bytes in the order of their ids.
std::vector<ByteSpelling> byte_alphabet() {
  std::vector<ByteSpelling> alphabet;
  for (unsigned byte = 0; byte < 256; ++byte)
    if (stands_for_itself(byte)) alphabet.push_back({static_cast<unsigned char>(byte), utf8(byte)});
  unsigned code = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte)
    if (!stands_for_itself(byte)) alphabet.push_back({static_cast<unsigned char>(byte), utf8(code++)});
  return alphabet;
}

}  // namespace

Vocabulary Vocabulary::of_bytes() {
  Vocabulary v;
  for (const ByteSpelling& spelling : byte_alphabet()) v.add(spelling.text, v.size());
  return v;
}

bool Vocabulary::add(std::string_view token, int32_t id) {
  if (has_id(id) || !ids_.emplace(token, id).second) return false;
  if (id >= size()) used_.resize(static_cast<size_t>(id) + 1);
  used_[static_cast<size_t>(id)] = true;
  return true;
}

int32_t Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? kNone : found->second;
}

std::optional<std::string> Vocabulary::first_unmarked(const std::vector<bool>& marks) const {
  const std::pair<const std::string, int32_t>* first = nullptr;
  for (const auto& token : ids_)
    if (!marks[static_cast<size_t>(token.second)] && (first == nullptr || token.second < first->second)) first = &token;
  return first == nullptr ? std::nullopt : std::optional(first->first);
}

std::array<int32_t, 256> Vocabulary::byte_ids(const std::filesystem::path& file) const {
  std::array<int32_t, 256> ids{};
  for (const ByteSpelling& spelling : byte_alphabet()) {
    ids[spelling.byte] = find(spelling.text);
    check(ids[spelling.byte] != kNone, "{}: token {} of byte {} is missing from the vocabulary", file.string(),
          shown(spelling.text), spelling.byte);
  }
  return ids;
}

}  // namespace inkstone
