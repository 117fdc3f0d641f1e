// How far numbers are from those expected.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>

#include "core/tensor.h"

namespace inkstone {

/// L2 norm of the difference over that of `expected`, in f64; as many numbers in each.
inline double relative_error(std::span<const float> got, std::span<const float> expected) {
  if (got.size() != expected.size()) throw std::runtime_error("cannot compare different counts of numbers");
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += std::pow(double{got[i]} - double{expected[i]}, 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

/// The same of f32 tensors, whatever their shapes.
inline double relative_error(const Tensor& got, const Tensor& expected) {
  return relative_error(got.span<const float>(), expected.span<const float>());
}

/// The greatest difference of two numbers, over the greatest number expected; infinite if the shapes differ or one of
/// them is NaN.
inline double greatest_error(const Tensor& got, const Tensor& expected) {
  if (got.shape() != expected.shape()) return INFINITY;
  double difference = 0, size = 0;
  for (int64_t i = 0; i < expected.count(); ++i) {
    const double e = expected.data<float>()[i];
    const double off = std::abs(got.data<float>()[i] - e);
    if (std::isnan(off)) return INFINITY;
    difference = std::max(difference, off);
    size = std::max(size, std::abs(e));
  }
  return difference / size;
}

}  // namespace inkstone
