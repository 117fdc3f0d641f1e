#include "engine/machine.h"

#include "cpu/cpu_device.h"
#include "ops/interceptor.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

std::unique_ptr<Device> make_device(DeviceKind kind, const EngineOptions& options) {
  if (kind == DeviceKind::reference) return make_reference_device();
  return make_cpu_device({.threads = options.threads, .memory_limit = options.memory_limit});
}

/// The outermost decorator: so a stop request takes effect within a step.
class CancelPoint final : public Interceptor {
 public:
  explicit CancelPoint(Kernels& next) : next_(next) {}

  void watch(std::stop_token stop) { stop_ = std::move(stop); }

 private:
  void intercept(const Call& call) override {
    if (stop_.stop_requested()) throw Cancelled();
    call.run(next_, call.out);
  }

  Kernels& next_;
  std::stop_token stop_;
};

}  // namespace

struct Machine::Parts {
  explicit Parts(const EngineOptions& options) : device(make_device(options.device, options)) {}

  std::unique_ptr<Device> device;
  CancelPoint cancel{device->kernels()};
  Ops ops{*device, cancel};
};

Machine::Machine(const EngineOptions& options) : parts_(std::make_unique<Parts>(options)) {}
Machine::~Machine() = default;

Device& Machine::device() { return *parts_->device; }
Ops& Machine::ops() { return parts_->ops; }
void Machine::watch(std::stop_token stop) { parts_->cancel.watch(std::move(stop)); }
std::string Machine::take_profile() { return {}; }

}  // namespace inkstone
