#include "ops/repeated.h"

namespace inkstone {

Tensor Repeated::operator()(const std::vector<Tensor>& inputs) {
  // The first time a device may still be preparing layers and tables.
  if (was_done_ && !was_tried_ && left_ >= kWorthwhile) {
    was_tried_ = true;
    recording_ = ops_.record(inputs, work_);
  }
  --left_;
  was_done_ = true;
  return recording_ ? recording_->replay(inputs) : work_(inputs);
}

}  // namespace inkstone
