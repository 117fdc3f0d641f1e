// The fast device of ordinary processors.
#pragma once
#include <memory>
#include <optional>

#include "core/host_memory.h"
#include "cpu/half_choice.h"
#include "cpu/vector_ops.h"
#include "ops/device.h"

namespace inkstone {

struct CpuOptions {
  int threads = 0;          ///< 0: as many as the processor and the container allow
  size_t memory_limit = 0;  ///< bytes of the device's pool; 0: what is available when the device is made
  std::optional<Isa> isa;   ///< absent: the best that the processor has
  bool int8 = false;        ///< multiply 8-bit numbers in tolerant layers: lossy
  std::optional<HalfChoice>
      half;                 ///< what to multiply in tolerant linear layers instead, of that instruction set: lossy
  size_t keep_rounded = 0;  ///< most bytes of weights in 8 bits to keep instead of rounding them in every product
  std::shared_ptr<HostMemory> pool = nullptr;  ///< where activations lie; null: one of the device's own
};

/// f32 activations in host memory; weights of any format are expanded, or rounded, tile by tile.
std::unique_ptr<Device> make_cpu_device(const CpuOptions& options = {});

}  // namespace inkstone
