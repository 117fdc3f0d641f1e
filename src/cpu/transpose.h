// Rows to columns, for panels that hold rows side by side.
#pragma once
#include <cstdint>
#include <cstring>

namespace inkstone {

/// Rows of numbers, the first of each `stride` numbers after the one before.
template <class T>
struct Strided {
  T* data;
  int64_t stride;
  T* at(int64_t row, int64_t column) const { return data + row * stride + column; }
};

/// to[j][i] = from[i][j] * factor for i < rows, j < columns. Squares of four go through registers.
inline void transpose(Strided<const float> from, int64_t rows, int64_t columns, float factor, Strided<float> to) {
  typedef float Four __attribute__((vector_size(16)));
  const int64_t whole_rows = rows - rows % 4, whole_columns = columns - columns % 4;
  for (int64_t i = 0; i < whole_rows; i += 4)
    for (int64_t j = 0; j < whole_columns; j += 4) {
      Four in[4];
      for (int64_t r = 0; r < 4; ++r) std::memcpy(&in[r], from.at(i + r, j), sizeof in[r]);
      const Four low01 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
      const Four low23 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
      const Four high01 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
      const Four high23 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
      const Four out[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5) * factor,
                           __builtin_shufflevector(low01, low23, 2, 3, 6, 7) * factor,
                           __builtin_shufflevector(high01, high23, 0, 1, 4, 5) * factor,
                           __builtin_shufflevector(high01, high23, 2, 3, 6, 7) * factor};
      for (int64_t r = 0; r < 4; ++r) std::memcpy(to.at(j + r, i), &out[r], sizeof out[r]);
    }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) *to.at(j, i) = *from.at(i, j) * factor;
}

}  // namespace inkstone
