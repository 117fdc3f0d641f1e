#include "ops/input_meter.h"

#include <algorithm>

namespace inkstone {

void InputSquares::add(const Linear& layer, const Tensor& x) {
  const auto in = static_cast<size_t>(x.dim(1));
  std::vector<double> squares(in);
  const float* row = x.data<const float>();
  for (int64_t r = 0; r < x.dim(0); ++r, row += in)
    for (size_t i = 0; i < in; ++i) squares[i] += double{row[i]} * row[i];
  for (const Slab& slab : layer.slabs) {
    if (slab.name.empty()) continue;
    Sums& sums = sums_[slab.name];
    sums.squares.resize(in);
    std::ranges::transform(sums.squares, squares, sums.squares.begin(), std::plus());
    sums.rows += x.dim(0);
  }
}

std::vector<float> InputSquares::means(const std::string& name) const {
  const auto found = sums_.find(name);
  if (found == sums_.end() || found->second.rows == 0) return {};
  std::vector<float> means;
  for (const double square : found->second.squares)
    means.push_back(static_cast<float>(square / static_cast<double>(found->second.rows)));
  return means;
}

void InputMeter::intercept(const Call& call) {
  for (const LinearPart& part : call.parts) squares_.add(*part.layer, part.x);
  call.run(inner_, call.out);
}

}  // namespace inkstone
