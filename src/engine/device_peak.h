// What a device with memory of its own can reach in this run, to measure its work against.
#pragma once
#include "engine/random_weights.h"
#include "ops/ops.h"

namespace inkstone {

/// One product of matrices of 8192x8192, in the arithmetic that the device uses in layers that tolerate rounding.
class ProductPeak {
 public:
  /// `format`: of the weights.
  ProductPeak(Device& device, RandomFormat format, int threads);

  /// Operations a second, a multiply-add counted as two: the median of a few.
  double measure(Ops& ops) const;

 private:
  Device& device_;
  Linear layer_;
  Tensor x_;
};

/// Bytes a second, read plus written, of copying much more than a cache holds: the median of a few.
double measure_copy_peak(Device& device, Ops& ops);

}  // namespace inkstone
