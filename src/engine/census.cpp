#include "engine/census.h"

#include <algorithm>

namespace inkstone {

void Census::need(const std::string& name) {
  asked_.insert(name);
  if (checkpoint_.find(name) == nullptr) missing_.push_back(name);
}

Linear Census::linear(const std::vector<SlabName>& slabs, int64_t, Bias bias) {
  for (const SlabName& slab : slabs) {
    need(slab.name + ".weight");
    if (bias == Bias::present) need(slab.name + ".bias");
    if (checkpoint_.scheme->packed == nullptr) continue;
    if (const auto packed = checkpoint_.scheme->packed(checkpoint_.tensors, slab.name))
      asked_.insert(packed->parts.begin(), packed->parts.end());
  }
  return {.slabs = {Slab{}}};
}

Weight Census::table(const std::string& name, int64_t, int64_t) {
  constexpr size_t kSuffix = std::string_view(".weight").size();
  linear({{name.substr(0, name.size() - kSuffix), 0}}, 0, Bias::absent);
  return {};
}

Tensor Census::vector(const std::string& name, int64_t) {
  need(name);
  return {};
}

Conv2d Census::conv2d(const std::string& name, int64_t, int64_t) {
  need(name + ".weight");
  need(name + ".bias");
  return {};
}

std::vector<std::string> Census::surplus() const {
  std::vector<std::string> names;
  for (const auto& item : checkpoint_.tensors) {
    const std::string& name = item.first;
    const bool ignored = std::any_of(ignored_.begin(), ignored_.end(),
                                     [&](const std::string& prefix) { return name.starts_with(prefix); });
    if (!ignored && !asked_.contains(name)) names.push_back(name);
  }
  return names;
}

}  // namespace inkstone
