// How a convolution's output pixels read its input.
//
// Where pixels are doubled first, the three taps of an axis fall on two pixels, and which of them share one depends on
// whether the output's position is even or odd. That makes four 2x2 convolutions of the small picture, whose kernels
// are sums: 4/9 of the arithmetic, and no doubled picture.
#pragma once
#include <vector>

#include "cpu/matrix_product.h"

namespace inkstone {

inline constexpr int64_t kKernelSide = 3;  // in the file

/// How the output positions of one kind read one axis: position i reads pixels i * step + first + [0, taps).
struct ConvAxis {
  int64_t taps = 0;
  int64_t first = 0;
  int64_t step = 1;
  int64_t tap_of[kKernelSide] = {};  ///< the tap that takes each of the kernel's weights
};

/// Output pixels that meet the same kernel.
struct PixelKind {
  ConvAxis down, across;
  int64_t lines = 0;    ///< of them in a picture
  int64_t columns = 0;  ///< in a line
  int64_t count = 0;    ///< in all pictures
  Weight kernel;        ///< (out, taps down * taps across * in)
  ResultRows result;
};

/// All output pixels.
std::vector<PixelKind> pixel_kinds(const Tensor& out, const Conv2d& conv);

}  // namespace inkstone
