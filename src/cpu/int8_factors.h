// What evens out the inputs of a layer before they are rounded to 8 bits.
//
// A few channels of real transformers are a hundred times larger than the rest, and numbers that share a scale with
// such a channel lose their digits. Where the layer's weights for the channel are small in turn, dividing the channel
// and multiplying its weights changes nothing but the rounding (Xiao et al., SmoothQuant, 2023, from weights alone).
#pragma once
#include <vector>

#include "core/thread_pool.h"
#include "cpu/vector_ops.h"
#include "ops/weight.h"

namespace inkstone {

struct Int8Factors {
  /// (in): the power of two nearest to the size of an input's weights over the median of these sizes: inputs with
  /// weights of usual size stay as they are, and multiplying rounds nothing.
  std::vector<float> of_input;
  std::vector<float> of_weight;  ///< (in): the inverse
  bool of_file = false;          ///< all of the layer's weights were rounded with these, and have them
};

/// Those that the layer's weights have, if all have the same; else a pass over the weights of a tolerant layer, or over
/// a sample of them where it is not often used.
Int8Factors int8_factors(const Linear& layer, ThreadPool& pool, const VectorOps& vector);

/// Whether they come with the layer's weights.
bool has_factors(const Linear& layer);

}  // namespace inkstone
