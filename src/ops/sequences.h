// How the rows of packed tensors divide into sequences: no padding, no masks.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace inkstone {

/// Sequence s owns the rows [begin(s), end(s)) of a stream.
class Sequences {
 public:
  Sequences() = default;
  explicit Sequences(std::span<const int64_t> lengths) {
    for (const int64_t n : lengths) offsets_.push_back(offsets_.back() + n);
  }
  /// `count` sequences of equal length.
  static Sequences equal(int64_t count, int64_t length) {
    return Sequences(std::vector<int64_t>(static_cast<size_t>(count), length));
  }

  int64_t count() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t rows() const { return offsets_.back(); }
  int64_t begin(int64_t s) const { return offsets_[static_cast<size_t>(s)]; }
  int64_t end(int64_t s) const { return offsets_[static_cast<size_t>(s) + 1]; }
  int64_t length(int64_t s) const { return end(s) - begin(s); }
  bool operator==(const Sequences&) const = default;

 private:
  std::vector<int64_t> offsets_ = {0};
};

/// Streams joined for attention: sequence s is the rows of sequence s of every stream, in the order of the streams.
struct JoinedSequences {
  std::vector<Sequences> streams;

  int64_t count() const { return streams.front().count(); }
  int64_t rows() const { return begin(count()); }
  int64_t begin(int64_t s) const {
    int64_t row = 0;
    for (const Sequences& stream : streams) row += s < stream.count() ? stream.begin(s) : stream.rows();
    return row;
  }
  int64_t end(int64_t s) const { return begin(s + 1); }
  /// First joined row of one stream's part of sequence s.
  int64_t begin(int64_t s, size_t stream) const {
    int64_t row = begin(s);
    for (size_t i = 0; i < stream; ++i) row += streams[i].length(s);
    return row;
  }
};

}  // namespace inkstone
