// Tiles of matrix products whose sums stay in the registers. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/functions.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// Sums of kTileRows rows by `vectors` vectors: all of them, and what one step reads, fit the registers.
template <int vectors>
struct Sums {
  Floats at[kTileRows][vectors];
};

/// How the left factor lies: number k of a row after number k - 1, or the rows' numbers k one after the other.
enum class Left : uint8_t { rows, columns };

/// sums += left (kTileRows, depth) right (depth, vectors); `stride` is of the left factor's other direction.
template <int vectors, Left order>
inline void multiply(Sums<vectors>& sums, const float* left, int64_t stride, const float* right, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k) {
    Floats r[vectors];
    for (int v = 0; v < vectors; ++v) r[v] = load(right + (k * vectors + v) * kLanes);
    for (int row = 0; row < kTileRows; ++row) {
      const Floats l = splat(order == Left::rows ? left[row * stride + k] : left[k * stride + row]);
      for (int v = 0; v < vectors; ++v) sums.at[row][v] = fma(l, r[v], sums.at[row][v]);
    }
  }
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
