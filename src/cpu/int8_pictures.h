// Pictures in 8 bits, with a border of zeros around each.
#pragma once
#include <vector>

#include "core/tensor.h"
#include "core/thread_pool.h"
#include "cpu/int8_ops.h"

namespace inkstone {

/// Some channels of all pixels; a pixel's share a scale.
struct Int8Plane {
  int64_t first = 0;   ///< channel
  int64_t depth = 0;   ///< channels
  int64_t stride = 0;  ///< from pixel to pixel of codes
  int8_t* codes = nullptr;
  float* scales = nullptr;  ///< of each pixel
  int32_t* sums = nullptr;  ///< likewise
};

/// Lines and columns of zeros around a picture.
inline constexpr int64_t kZerosBefore = 1;
inline constexpr int64_t kZerosAfter = 2;  // a kernel without stride that is padded after reads so far
inline constexpr int64_t kZeros = kZerosBefore + kZerosAfter;

/// Pixels (count, height, width, channels) rounded, each by itself. Planes are equal parts of at most kInt8MostGroup
/// channels.
class Int8Pictures {
 public:
  explicit Int8Pictures(const Tensor& x);

  static int64_t bytes(const Shape& x);  ///< in multiples of 64
  /// To bytes() at `memory`, which is aligned to 64 of them.
  void round(std::byte* memory, ThreadPool& pool, const Int8Ops& int8);

  const std::vector<Int8Plane>& planes() const { return planes_; }
  int64_t line_pixels() const { return shape_[2] + kZeros; }  ///< from a pixel to the one below
  /// Lines and columns may be the border's.
  int64_t pixel(int64_t picture, int64_t line, int64_t column) const {
    return (picture * (shape_[1] + kZeros) + line + kZerosBefore) * line_pixels() + column + kZerosBefore;
  }

 private:
  void round_line(int64_t picture, int64_t line, const Int8Ops& int8) const;

  const Tensor& x_;
  Shape shape_;
  std::vector<Int8Plane> planes_;
};

}  // namespace inkstone
