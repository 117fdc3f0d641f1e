#include "cpu/epilogue.h"

#include <algorithm>
#include <cmath>

namespace inkstone {
namespace {

constexpr float kGeluFactor = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;

void activate(Activation activation, float* y, int64_t n) {
  switch (activation) {
    case Activation::none:
      return;
    case Activation::silu:
      for (int64_t i = 0; i < n; ++i) y[i] = y[i] / (1.0f + std::exp(-y[i]));
      return;
    case Activation::gelu_tanh:
      for (int64_t i = 0; i < n; ++i)
        y[i] = 0.5f * y[i] * (1.0f + std::tanh(kGeluFactor * (y[i] + kGeluCubic * y[i] * y[i] * y[i])));
      return;
  }
}

/// The gate's vector for a sequence.
const float* gate_of(const SequenceRows& gate, int64_t sequence) {
  const int64_t row = gate.row.data<const int32_t>()[sequence] + gate.slot;
  return gate.table.data<const float>() + row * gate.table.dim(1);
}

}  // namespace

void finish_tile(const Tile& tile, const float* bias, const Epilogue& epilogue) {
  const int64_t n = tile.column_end - tile.column_begin;
  const float* residual = epilogue.residual ? epilogue.residual.data<const float>() : nullptr;
  int64_t sequence = -1;
  int64_t sequence_end = 0;
  const float* gate = nullptr;
  for (int64_t row = tile.row_begin; row < tile.row_end; ++row) {
    const int64_t start = row * tile.stride + tile.column_begin;
    float* y = tile.y + start;
    if (bias != nullptr)
      for (int64_t i = 0; i < n; ++i) y[i] += bias[i];
    activate(epilogue.activation, y, n);
    if (epilogue.gate) {
      while (row >= sequence_end) {
        sequence_end = epilogue.gate.sequences->end(++sequence);
        gate = gate_of(epilogue.gate, sequence) + tile.column_begin;
      }
      for (int64_t i = 0; i < n; ++i) y[i] *= gate[i];
    }
    if (residual != nullptr)
      for (int64_t i = 0; i < n; ++i) y[i] += residual[start + i];
  }
}

}  // namespace inkstone
