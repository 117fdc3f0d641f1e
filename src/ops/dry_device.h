// A device that counts memory and computes nothing.
#pragma once
#include <memory>

#include "ops/device.h"

namespace inkstone {

/// Model code that runs on it through a Trace without kernels takes no time and no memory; memory() then says what a
/// device with f32 activations would need. Its buffers have no data; download() gives zeros. kernels() does nothing.
std::unique_ptr<Device> make_dry_device();

}  // namespace inkstone
