// Files in the order of the cpu's 8-bit kernels: which matrices, and what evens out their inputs.
#pragma once
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "io/checkpoint.h"

namespace inkstone {

/// Matrices of a layer, which read the same inputs and so share their factors.
class MixedLayer {
 public:
  explicit MixedLayer(std::vector<Weight> matrices) : matrices_(std::move(matrices)) {}

  /// F32 (in), see Int8Factors::of_input; found by the first call, in a pass over the matrices.
  Tensor factors(ThreadPool& pool);

 private:
  std::vector<Weight> matrices_;
  Tensor factors_;
};

/// The names, without `.weight`, of the matrices of each layer that the cpu may multiply in 8 bits. Throws Error for
/// any tensor of the component that is missing, misshapen or surplus.
std::vector<std::vector<std::string>> layers_in_8_bits(const Checkpoint& files);

}  // namespace inkstone
