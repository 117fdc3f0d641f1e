// Arguments for tests of linear layers.
#pragma once
#include "ops/kernels.h"
#include "ops/random_tensors.h"

namespace inkstone {

struct LinearSize {
  int64_t rows, in;
  std::vector<int64_t> outs;
};

/// Slabs of these many outputs, every other one with a bias.
inline Linear layer_of(WeightFormat format, const std::vector<int64_t>& outs, int64_t in, uint64_t seed) {
  Linear layer;
  for (const int64_t out : outs) {
    const uint64_t s = seed + 10 * layer.slabs.size();
    layer.slabs.push_back(
        {random_weight(format, out, in, s), layer.slabs.size() % 2 == 0 ? random_normal({out}, s + 5) : Tensor()});
  }
  return layer;
}

/// Sequences of a stream and, for each, a row of a table of gates.
struct Gates {
  Gates(const std::vector<int64_t>& lengths, int64_t d)
      : sequences(lengths), rows{random_normal({12, d}, 8), random_indices(sequences.count(), 9, 9), 2, &sequences} {}
  Sequences sequences;
  SequenceRows rows;
};

}  // namespace inkstone
