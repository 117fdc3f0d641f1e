// The fast device of ordinary processors.
#pragma once
#include <memory>

#include "ops/device.h"

namespace inkstone {

struct CpuOptions {
  int threads = 0;  ///< 0: as many as the processor and the container allow
};

/// f32 activations in host memory; weights of any format are expanded tile by tile.
std::unique_ptr<Device> make_cpu_device(const CpuOptions& options = {});

}  // namespace inkstone
