// The streams of a model beside each other on the device.
#pragma once
#include <algorithm>

#include "cuda/context.h"

namespace inkstone {

/// Work on one of several parts.
struct PartWork {
  int64_t rows = 0;
  std::vector<Tensor> reads, makes;  ///< activations
};

/// Runs `work(p)` for each part, all but the largest aside: the few rows of a text read as many weights as a picture's,
/// which costs little beside the picture's arithmetic.
template <class Work>
void run_apart(CudaContext& context, const std::vector<PartWork>& parts, const Work& work) {
  const auto largest = static_cast<size_t>(std::ranges::max_element(parts, {}, &PartWork::rows) - parts.begin());
  context.meet_for(parts[largest].reads);
  if (parts.size() == 1) return work(size_t{0});
  CudaContext::Apart apart(context);
  for (size_t p = 0; p < parts.size(); ++p)
    if (p != largest) apart.aside([&] { work(p); }, parts[p].reads, parts[p].makes);
  work(largest);
}

}  // namespace inkstone
