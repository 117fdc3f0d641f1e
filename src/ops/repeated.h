// Work that is done step after step on tensors of the same shapes: a device that can records it once and replays it.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "ops/ops.h"

namespace inkstone {

class Repeated {
 public:
  /// `work` may use tensors that stay where they are as long as this lives; `times`: how often it will be done.
  Repeated(Ops& ops, RecordedWork work, int64_t times) : ops_(ops), work_(std::move(work)), left_(times) {}

  /// The result is void when the next is there.
  Tensor operator()(const std::vector<Tensor>& inputs);

 private:
  /// What recording costs the host must come back: it is about what queueing the work takes.
  static constexpr int64_t kWorthwhile = 3;

  Ops& ops_;
  RecordedWork work_;
  int64_t left_;
  bool was_done_ = false, was_tried_ = false;
  std::unique_ptr<Recording> recording_;
};

}  // namespace inkstone
