// What several of the reference's ops have in common.
#pragma once
#include <cmath>
#include <numbers>

#include "ops/kernels.h"

namespace inkstone {

inline double silu(double x) { return x / (1 + std::exp(-x)); }

/// The tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))).
inline double gelu_tanh(double x) {
  const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x / 2 * (1 + std::tanh(inner));
}

inline double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return silu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
  }
  return x;
}

/// The vector of the sequence that owns `row`.
inline const float* vector_of(const SequenceRows& vectors, int64_t row) {
  int64_t s = 0;
  while (row >= vectors.sequences->end(s)) ++s;
  const int64_t index = vectors.row.data<const int32_t>()[s] + vectors.slot;
  return vectors.table.data<const float>() + index * vectors.table.dim(1);
}

}  // namespace inkstone
