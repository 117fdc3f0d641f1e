// The device whose kernels are the definitions of the ops: obvious loops, no speed.
#pragma once
#include <memory>

#include "ops/device.h"

namespace inkstone {

/// f32 activations in host memory, one thread, sums in f64 where that makes the result independent of their order.
std::unique_ptr<Device> make_reference_device();

}  // namespace inkstone
