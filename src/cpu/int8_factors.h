// What evens out the inputs of a layer before they are rounded to 8 bits.
//
// A few channels of real transformers are a hundred times larger than the rest, and numbers that share a scale with
// such a channel lose their digits. Where the layer's weights for the channel are small in turn, dividing the channel
// and multiplying its weights changes nothing but the rounding (Xiao et al., SmoothQuant, 2023, from weights alone).
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/vector_ops.h"
#include "ops/weight.h"

namespace inkstone {

struct Int8Factors {
  /// (in): the power of two nearest to the size of an input's weights over the median of these sizes, at most 1: inputs
  /// with weights of usual size stay as they are, and multiplying rounds nothing.
  std::vector<float> of_input;
  std::vector<float> of_weight;  ///< (in): the inverse
};

/// The factors of layers, worked out when first asked for: a pass over the weights.
class Int8FactorCache {
 public:
  const Int8Factors& of(const Linear& layer, ThreadPool& pool, const VectorOps& vector);

 private:
  struct Entry {
    std::weak_ptr<Buffer> weights;  // another layer may come to lie where a freed one was
    std::unique_ptr<Int8Factors> factors;
  };
  std::map<const void*, Entry> entries_;  // by the address of the first matrix
};

}  // namespace inkstone
