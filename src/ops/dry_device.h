// A device that counts memory and computes nothing.
#pragma once
#include <memory>

#include "core/host_memory.h"
#include "ops/device.h"

namespace inkstone {

/// Model code that runs on it through a Trace without kernels takes no time and no memory; memory() then says what a
/// device with such activations would need, `narrow` those that only products read. Its buffers have no data;
/// download() gives zeros. kernels() does nothing. `pool`, one without backing, keeps returned buffers as a real
/// device's does; without one nothing is kept.
std::unique_ptr<Device> make_dry_device();
std::unique_ptr<Device> make_dry_device(std::shared_ptr<HostMemory> pool, DType narrow = DType::f32);

}  // namespace inkstone
