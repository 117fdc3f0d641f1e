// Byte-pair encoding of one piece of text (Sennrich et al. 2016; BPE of the tokenizers library).
#pragma once
#include <array>
#include <cstdint>
#include <queue>
#include <string_view>
#include <vector>

namespace inkstone {

/// The merges of a byte-level BPE, in the order of their ranks.
class Bpe {
 public:
  /// `byte_ids`: the id of each single byte.
  explicit Bpe(const std::array<int32_t, 256>& byte_ids) : byte_ids_(byte_ids) {}

  /// Adds the next merge: `left` and `right`, side by side, become `result`. False if that pair has a merge already.
  bool add(int32_t left, int32_t right, int32_t result);

  struct Merge {
    int32_t left = 0, right = 0, result = 0;
  };
  static constexpr uint32_t kNoMerge = UINT32_MAX;

  int32_t byte_id(char byte) const { return byte_ids_[static_cast<unsigned char>(byte)]; }
  uint32_t rank_of(int32_t left, int32_t right) const;  ///< kNoMerge if the pair has none
  const Merge& merge(uint32_t rank) const { return merges_[rank]; }

  /// Whether a text can give id i, for every i below `size`.
  std::vector<bool> reachable(int32_t size) const;

 private:
  void grow();
  size_t slot_of(int32_t left, int32_t right) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Merge> merges_;
  std::vector<uint32_t> slots_;  ///< open addressing: ranks, kNoMerge where free; a power of two of them
};

/// Encodes pieces one after the other, keeping its working memory.
class BpeEncoder {
 public:
  explicit BpeEncoder(const Bpe& bpe) : bpe_(bpe) {}

  /// Appends the ids of `piece`, of less than 2^31 bytes. The merge of lowest rank goes first, of equal ones the
  /// leftmost, until none is left; n bytes take O(n log n).
  void encode(std::string_view piece, std::vector<int32_t>& ids);

 private:
  void consider(int32_t left);
  void join(int32_t left);

  static constexpr int32_t kNone = -1;
  struct Symbol {
    int32_t id;  ///< kNone once joined to the symbol before
    int32_t previous, next;
  };

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  /// Rank in the upper half, place of the left symbol in the lower. Outdated entries are noticed when their turn comes.
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> candidates_;
};

}  // namespace inkstone
