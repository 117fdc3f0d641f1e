// The tokens of a byte-level BPE and their ids, as tokenizer files spell them (bytes_to_unicode of GPT-2).
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace inkstone {

/// Spelling -> id. Bytes are spelt with GPT-2's alphabet: the printable ones of Latin-1 as themselves, the other 68 in
/// increasing order as U+0100, U+0101, ...
class Vocabulary {
 public:
  static constexpr int32_t kMaxTokens = 1 << 24;
  static constexpr int32_t kNone = -1;

  /// The 256 bytes: ids 0 to 255 in the order of the alphabet (printable ones first).
  static Vocabulary of_bytes();

  /// False if there is such a token already, or one of this id.
  bool add(std::string_view token, int32_t id);
  int32_t find(std::string_view token) const;  ///< kNone if there is none
  bool has_id(int32_t id) const { return static_cast<size_t>(id) < used_.size() && used_[static_cast<size_t>(id)]; }

  /// One more than the greatest id.
  int32_t size() const { return static_cast<int32_t>(used_.size()); }

  /// The token of least id that is not marked; nothing if all are. A mark for each id below size().
  std::optional<std::string> first_unmarked(const std::vector<bool>& marks) const;

  /// The id of each byte. Throws Error naming `file` and the token that is missing.
  std::array<int32_t, 256> byte_ids(const std::filesystem::path& file) const;

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<bool> used_;
};

}  // namespace inkstone
