#include "model/bpe.h"

namespace inkstone {
namespace {

constexpr size_t kFirstSlots = 1024;
constexpr size_t kSlotsPerMerge = 2;  // at least

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014): spreads any pair of ids over all bits.
uint64_t spread(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

size_t Bpe::slot_of(int32_t left, int32_t right) const {
  const uint64_t pair = (static_cast<uint64_t>(left) << 32) | static_cast<uint32_t>(right);
  const size_t mask = slots_.size() - 1;
  size_t slot = spread(pair) & mask;
  while (slots_[slot] != kNoMerge) {
    const Merge& m = merges_[slots_[slot]];
    if (m.left == left && m.right == right) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}

void Bpe::grow() {
  slots_.assign(slots_.empty() ? kFirstSlots : 2 * slots_.size(), kNoMerge);
  for (uint32_t rank = 0; rank < merges_.size(); ++rank)
    slots_[slot_of(merges_[rank].left, merges_[rank].right)] = rank;
}

std::vector<bool> Bpe::reachable(int32_t size) const {
  std::vector<bool> ids(static_cast<size_t>(size));
  for (const int32_t id : byte_ids_) ids[static_cast<size_t>(id)] = true;
  for (const Merge& merge : merges_) ids[static_cast<size_t>(merge.result)] = true;
  return ids;
}

bool Bpe::add(int32_t left, int32_t right, int32_t result) {
  if (slots_.size() < kSlotsPerMerge * (merges_.size() + 1)) grow();
  const size_t slot = slot_of(left, right);
  if (slots_[slot] != kNoMerge) return false;
  slots_[slot] = static_cast<uint32_t>(merges_.size());
  merges_.push_back({left, right, result});
  return true;
}

uint32_t Bpe::rank_of(int32_t left, int32_t right) const {
  return slots_.empty() ? kNoMerge : slots_[slot_of(left, right)];
}

/// Notes the merge of a symbol with the next one, if there is one.
void BpeEncoder::consider(int32_t left) {
  if (left == kNone) return;
  const Symbol& symbol = symbols_[static_cast<size_t>(left)];
  if (symbol.next == kNone) return;
  const uint32_t rank = bpe_.rank_of(symbol.id, symbols_[static_cast<size_t>(symbol.next)].id);
  if (rank != Bpe::kNoMerge) candidates_.push((static_cast<uint64_t>(rank) << 32) | static_cast<uint32_t>(left));
}

/// Takes the next symbol out of the list.
void BpeEncoder::join(int32_t left) {
  Symbol& symbol = symbols_[static_cast<size_t>(left)];
  Symbol& next = symbols_[static_cast<size_t>(symbol.next)];
  next.id = kNone;
  symbol.next = next.next;
  if (symbol.next != kNone) symbols_[static_cast<size_t>(symbol.next)].previous = left;
}

void BpeEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) {
  const auto n = static_cast<int32_t>(piece.size());
  symbols_.clear();
  for (int32_t i = 0; i < n; ++i)
    symbols_.push_back({bpe_.byte_id(piece[static_cast<size_t>(i)]), i - 1, i + 1 < n ? i + 1 : kNone});
  for (int32_t i = 0; i < n; ++i) consider(i);

  while (!candidates_.empty()) {
    const uint64_t candidate = candidates_.top();
    candidates_.pop();
    const Bpe::Merge& merge = bpe_.merge(static_cast<uint32_t>(candidate >> 32));
    const auto left = static_cast<int32_t>(candidate & UINT32_MAX);
    Symbol& symbol = symbols_[static_cast<size_t>(left)];
    if (symbol.id != merge.left || symbol.next == kNone) continue;
    if (symbols_[static_cast<size_t>(symbol.next)].id != merge.right) continue;
    join(left);
    symbol.id = merge.result;
    consider(symbol.previous);
    consider(left);
  }
  for (const Symbol& symbol : symbols_)
    if (symbol.id != kNone) ids.push_back(symbol.id);
}

}  // namespace inkstone
