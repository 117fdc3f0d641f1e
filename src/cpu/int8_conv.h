// Convolutions of tolerant layers in 8 bits; src/reference/int8_conv.h defines them.
#pragma once
#include "cpu/conv_kinds.h"
#include "cpu/int8_panel.h"

namespace inkstone {

/// One convolution: what its kinds of output pixels read, and where their sums go.
struct Int8Convolution {
  const Tensor& x;
  std::span<const PixelKind> kinds;
  std::span<const MatrixProduct> products;  ///< of each kind, without a left factor
};

/// Rounds the pictures and the kernels, and multiplies whole numbers. A pixel of the result depends on its
/// neighbourhood alone, not on how the work was cut.
void run_int8_convolution(const Int8Convolution& convolution, ThreadPool& pool, const Int8Functions& functions,
                          WorkerScratch& scratch);

/// Bytes that this takes beside x and the result.
size_t int8_convolution_bytes(const Int8Ops& int8, const Shape& x, const Conv2d& conv);

}  // namespace inkstone
