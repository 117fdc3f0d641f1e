// What a component's tensors add up to.
#pragma once
#include <map>
#include <string>

#include "io/checkpoint.h"

namespace inkstone {

/// Packed matrices count with the numbers that they stand for.
struct ComponentTotals {
  int64_t parameters = 0;
  size_t bytes = 0;
  std::map<std::string, int64_t> dtypes;  ///< tensors of each
  std::string format;                     ///< of the matrices: "bf16", or "int4+bf16", the greater share first
  std::string packed;                     ///< those formats of them that have fewer bits than published weights
};

/// A tensor that every component of a kind has, by its canonical name: files that are read as another kind lack it.
std::string_view telling_tensor(Component component);

ComponentTotals totals_of(const Checkpoint& files);

/// Whether there are matrices that are not the same when they are held in bf16.
bool loses_in_bf16(const Checkpoint& files);

}  // namespace inkstone
