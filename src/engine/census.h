// Which tensors a component has, lacks and has too many, by name.
#pragma once
#include <string>
#include <vector>

#include "io/weight_loader.h"

namespace inkstone {

/// A WeightLoader that binds nothing: loading a component with it finds every missing and surplus tensor, not only the
/// first. Names are the canonical ones.
class Census final : public WeightLoader {
 public:
  Census(const Checkpoint& checkpoint, Device& device) : WeightLoader(checkpoint, device) {}

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) override;
  Weight table(const std::string& name, int64_t rows, int64_t width) override;
  Tensor vector(const std::string& name, int64_t n) override;
  Conv2d conv2d(const std::string& name, int64_t out, int64_t in) override;
  void finish() const override {}

  const std::vector<std::string>& missing() const { return missing_; }

 private:
  void need(const std::string& name);

  std::vector<std::string> missing_;
};

}  // namespace inkstone
