// The vectors of SequenceRows, found row after row.
#pragma once
#include "ops/kernels.h"

namespace inkstone {

/// Gives each row its sequence's vector. Rows are asked for in ascending order.
class SequenceVectors {
 public:
  explicit SequenceVectors(const SequenceRows& vectors) : vectors_(vectors) {}

  const float* at(int64_t row) {
    if (row >= end_) {
      while (row >= end_) end_ = vectors_.sequences->end(sequence_++);
      const int64_t index = vectors_.row.data<const int32_t>()[sequence_ - 1] + vectors_.slot;
      vector_ = vectors_.table.data<const float>() + index * vectors_.table.dim(1);
    }
    return vector_;
  }

 private:
  const SequenceRows& vectors_;
  int64_t sequence_ = 0;  // the next one
  int64_t end_ = 0;       // of the current one
  const float* vector_ = nullptr;
};

}  // namespace inkstone
