// A GPU that a process loses, as after a fault of the hardware, and what is said then.
#pragma once
#include <cstdio>
#include <functional>

#include "core/error.h"
#include "ops/device.h"

namespace inkstone {

/// Where no memory is.
struct Nowhere final : Buffer {
  Nowhere() : Buffer(reinterpret_cast<void*>(uintptr_t{1} << 16), size_t{1} << 20) {}
};

/// Queues an op for which this process loses the device.
inline void lose(Device& device) {
  Tensor lost(std::make_shared<Nowhere>(), 0, {64, 64}, DType::f32);
  device.kernels().add_scaled(lost, lost, lost, lost);
}

/// Tells standard error what `work` throws.
inline void tell_error_of(const char* what, const std::function<void()>& work) {
  try {
    work();
    std::fprintf(stderr, "%s: no error\n", what);
  } catch (const Error& e) {
    std::fprintf(stderr, "%s: %s\n", what, e.what());
  }
}

}  // namespace inkstone
