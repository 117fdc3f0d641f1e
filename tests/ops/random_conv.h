// Convolutions for tests.
#pragma once
#include <string>

#include "ops/device_under_test.h"

namespace inkstone {

constexpr int64_t kTaps = 9;

inline Conv2d random_conv(int64_t out, int64_t in, WeightFormat format = WeightFormat::f32) {
  const Tensor weight = random_weight(format, out, kTaps * in, 3).data;
  return {.weight = weight.reshape({out, 3, 3, in}), .bias = random_normal({out}, 4)};
}

/// For the text of a failure.
inline std::string described(const Tensor& x, const Conv2d& conv) {
  return fmt::format("{} to {}, stride {}, upsampling {}, {}", x.shape().text(), conv.out(), conv.stride,
                     conv.upsampling, conv.padding == Padding::same ? "same" : "after");
}

/// Calls `expect(x, conv)` for every stride, upsampling and padding on pictures of odd sizes. `make(out, in)` gives the
/// convolution.
void for_every_kind(const auto& make, const auto& expect) {
  const Shape kPictures[] = {{1, 1, 1, 5}, {1, 1, 9, 3}, {2, 7, 1, 16}, {1, 2, 2, 33}, {3, 5, 7, 20}, {1, 30, 41, 6}};
  for (const Shape& picture : kPictures)
    for (const int stride : {1, 2})
      for (const int upsampling : {1, 2})
        for (const Padding padding : {Padding::same, Padding::after}) {
          if (picture[1] * upsampling < stride || picture[2] * upsampling < stride) continue;  // no output
          Conv2d conv = make(19, picture[3]);
          conv.stride = stride;
          conv.upsampling = upsampling;
          conv.padding = padding;
          expect(random_normal(picture, 1), conv);
        }
}

}  // namespace inkstone
