// What a convolution in 8 bits computes, as plain loops: the definition for devices that offer it.
#pragma once
#include "ops/weight.h"

namespace inkstone {

/// As Kernels::conv2d of numbers that are rounded first. A pixel's channels share a scale, and so do those of an
/// output's kernel under one pixel: scale = greatest magnitude / 127, number = scale * nearest(x / scale). More than
/// 384 channels are equal parts, of a multiple of 4 channels each, with a scale each. Taps that fall on the same pixel
/// of a doubled picture are added before they are rounded.
void int8_conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual);

}  // namespace inkstone
