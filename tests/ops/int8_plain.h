// Rounding to 8 bits and products of what was rounded, as plain loops.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/tensor.h"
#include "cpu/int8_ops.h"

namespace inkstone {

inline int64_t groups_of(int64_t n) { return (n + kInt8Group - 1) / kInt8Group; }

/// Rows, or weights of outputs, as codes with a scale and a sum for each group.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

/// What is done to a group before it is rounded.
inline void mix(std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  int64_t begin = 0;
  for (const int64_t count : {16, 8, 4})
    for (const int64_t block = count * kInt8MixSpacing; n - begin >= block; begin += block) {
      for (int64_t apart = kInt8MixSpacing; apart < block; apart *= 2)
        for (int64_t i = 0; i < block; ++i) {
          if ((i & apart) != 0) continue;
          float &a = x[static_cast<size_t>(begin + i)], &b = x[static_cast<size_t>(begin + i + apart)];
          const float sum = a + b;
          b = a - b;
          a = sum;
        }
      for (int64_t i = 0; i < block; ++i)
        x[static_cast<size_t>(begin + i)] *= static_cast<float>(1 / std::sqrt(static_cast<double>(count)));
    }
}

inline Codes plain_codes(const Tensor& x, const std::vector<float>& factors = {}) {
  const int64_t n = x.dim(1);
  Codes all;
  for (int64_t row = 0; row < x.dim(0); ++row)
    for (int64_t begin = 0; begin < n; begin += kInt8Group) {
      const int64_t depth = std::min(kInt8Group, n - begin);
      const float* x_begin = x.data<const float>() + row * n + begin;
      std::vector<float> from(x_begin, x_begin + depth);
      for (int64_t i = 0; i < depth && !factors.empty(); ++i)
        from[static_cast<size_t>(i)] *= factors[static_cast<size_t>(begin + i)];
      mix(from);
      float greatest = 0;
      for (const float v : from) greatest = std::max(greatest, std::abs(v));
      const float inverse = greatest > 0 ? 127 / greatest : 0;
      for (const float v : from) all.codes.push_back(static_cast<int8_t>(std::nearbyint(v * inverse)));
      all.scales.push_back(greatest / 127);
      all.sums.push_back(std::accumulate(all.codes.end() - depth, all.codes.end(), 0));
    }
  return all;
}

/// A row times the weights of an output, with sums in whole numbers and f64.
inline double plain_product(const Codes& x, const Codes& w, int64_t row, int64_t out, int64_t n) {
  double y = 0;
  for (int64_t g = 0; g < groups_of(n); ++g) {
    int64_t sum = 0;
    for (int64_t k = g * kInt8Group; k < std::min(n, (g + 1) * kInt8Group); ++k)
      sum += x.codes[static_cast<size_t>(row * n + k)] * w.codes[static_cast<size_t>(out * n + k)];
    y += static_cast<double>(sum) * x.scales[static_cast<size_t>(row * groups_of(n) + g)] *
         w.scales[static_cast<size_t>(out * groups_of(n) + g)];
  }
  return y;
}

}  // namespace inkstone
