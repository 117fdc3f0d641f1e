#include "ops/comparer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace inkstone {
namespace {

double norm_ratio(double difference, double size) {
  if (difference == 0) return 0;
  const double error = std::sqrt(difference / size);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

/// |a - b| / |b| over all elements; numbers that are equal, or neither of which is one, do not differ.
double error_of_floats(const Tensor& a, const Tensor& b) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    const double x = a.data<const float>()[i], y = b.data<const float>()[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) {
      if (std::isfinite(y)) size += y * y;
      continue;
    }
    difference += (x - y) * (x - y);
    size += y * y;
  }
  return norm_ratio(difference, size);
}

/// As for floats, but one level more or less is equal: a tie may round either way.
double error_of_levels(const Tensor& a, const Tensor& b) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    const int x = a.data<const uint8_t>()[i], y = b.data<const uint8_t>()[i];
    if (std::abs(x - y) > 1) difference += (x - y) * (x - y);
    size += y * y;
  }
  return norm_ratio(difference, size);
}

double error_of(const Tensor& a, const Tensor& b) {
  if (a.dtype() == DType::u8) return error_of_levels(a, b);
  return error_of_floats(to_f32(a), to_f32(b));
}

}  // namespace

std::string Comparer::Difference::text() const {
  return fmt::format("{}, call {}: result {} of shape {} differs by {:.3g}; the op read {}", op, call, result, shape,
                     error, fmt::join(in, " "));
}

void Comparer::intercept(const Call& call) {
  ++calls_;
  std::vector<Tensor> again;
  for (const Tensor& t : call.out) again.push_back(host_tensor(t.shape(), t.dtype()));
  call.run(first_, call.out);
  call.run(second_, again);

  for (size_t i = 0; i < again.size(); ++i) {
    const double error = error_of(call.out[i], again[i]);
    worst_ = std::max(worst_, error);
    if (error <= tolerance_ || difference_) continue;
    difference_ = {.op = std::string(call.op), .call = calls_, .result = i, .shape = again[i].shape(), .error = error};
    for (const Tensor& t : call.in) difference_->in.push_back(t.shape());
    if (on_difference_ == OnDifference::stop) fail("{}; at most {:.3g} is right", difference_->text(), tolerance_);
  }
}

}  // namespace inkstone
