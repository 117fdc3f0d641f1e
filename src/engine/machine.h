// A device with the decorators that an engine wants around its kernels.
#pragma once
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "inkstone/inkstone.h"

#include "core/host_memory.h"
#include "cpu/half_choice.h"
#include "cpu/vector_ops.h"
#include "cuda/cuda_findings.h"
#include "ops/ops.h"

namespace inkstone {

/// What runs where a device was asked for.
struct DeviceChoice {
  DeviceKind kind = DeviceKind::cpu;
  std::string note;  ///< why it is not the GPU that is there; else empty
};
/// `automatic` is cuda if the device that was looked for can be used, else the cpu.
DeviceChoice choose_device(DeviceKind wanted, const CudaFindings& found);
/// On this machine; `index`: of several cuda devices.
DeviceChoice choose_device(DeviceKind wanted, int index);

/// The best that the processor has, or the one that was asked for.
Isa isa_of(InstructionSet set);

/// Makes one more decorator, around the kernels that it is given.
using Decorate = std::function<std::unique_ptr<Kernels>(Kernels&)>;

class Machine {
 public:
  explicit Machine(const EngineOptions& options, const Decorate& decorate = {});
  ~Machine();

  const DeviceChoice& choice() const;
  Device& device();
  /// Where the device's activations lie, unless it is the reference.
  HostMemory& memory();
  /// What the options' arithmetic of 16 bits is here, if they ask for such.
  const std::optional<HalfChoice>& half() const;
  /// Ops that throw Cancelled soon after a stop request of the token last given to watch().
  Ops& ops();
  void watch(std::stop_token stop);

  /// The table of the ops' times since the last call; empty unless the options ask for it.
  std::string take_profile();

  /// How far the compared device was from this one so far; empty unless the options ask for it.
  std::string comparison() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace inkstone
