// Rows of activations in 16 bits.
#pragma once
#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "cpu/half_ops.h"

namespace inkstone {

constexpr int64_t kHalvesOfAPlace = 2;

/// From row to row, in places. An odd number of cache lines keeps rows out of each other's way in the caches.
inline int64_t half_stride(int64_t width) {
  return (divide_up(divide_up(width, kHalvesOfAPlace), kLineNumbers) | 1) * kLineNumbers;
}

/// Two numbers to a place; what is null is not there.
struct HalfRows {
  float* places = nullptr;  ///< (rows, places), `stride` apart
  int64_t stride = 0;
  float* scales = nullptr;  ///< (rows) that products are multiplied with
};

/// Bytes of so many rows and their scales.
inline int64_t half_bytes(int64_t rows, int64_t width) {
  return rows * (half_stride(width) + 1) * static_cast<int64_t>(sizeof(float));
}

}  // namespace inkstone
