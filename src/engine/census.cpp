#include "engine/census.h"

namespace inkstone {

void Census::need(const std::string& name) {
  mark_used(name);
  if (checkpoint().find(name) == nullptr) missing_.push_back(name);
}

Linear Census::linear(const std::vector<SlabName>& slabs, int64_t, Bias bias) {
  for (const SlabName& slab : slabs) {
    need(slab.name + std::string(kWeightSuffix));
    if (bias == Bias::present) need(slab.name + ".bias");
    if (const auto packed = checkpoint().packed(slab.name)) mark_used(*packed);
  }
  return {.slabs = {Slab{}}};
}

Weight Census::table(const std::string& name, int64_t, int64_t) {
  linear({{name.substr(0, name.size() - kWeightSuffix.size()), 0}}, 0, Bias::absent);
  return {};
}

Tensor Census::vector(const std::string& name, int64_t) {
  need(name);
  return {};
}

Conv2d Census::conv2d(const std::string& name, int64_t, int64_t) {
  need(name + std::string(kWeightSuffix));
  need(name + ".bias");
  return {};
}

}  // namespace inkstone
