#include "engine/machine.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "inkstone/combination_error.h"

#include "core/host_memory.h"
#include "core/option_error.h"
#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"
#include "ops/comparer.h"
#include "ops/host_bridge.h"
#include "ops/profiler.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

/// Relative error of one op in f32. Sums of some ten thousand products in another order differ by about 1e-6; a fault
/// shows as 1e-3 or more.
constexpr double kTolerance = 2e-5;
/// The same with operands and results rounded to bf16, each by up to 2^-8.
constexpr double kNarrowTolerance = 1e-2;

std::optional<HalfChoice> half_of(const EngineOptions& options) {
  const Isa isa = isa_of(options.isa);
  if (options.arithmetic == Arithmetic::fp16) return chosen_half(isa, HalfKind::fp16);
  if (options.arithmetic == Arithmetic::bf16) return chosen_half(isa, HalfKind::bf16);
  if (options.arithmetic == Arithmetic::half) return fastest_half(isa);
  return std::nullopt;
}

std::unique_ptr<Device> make_cpu(const EngineOptions& options, std::shared_ptr<HostMemory> pool,
                                 const std::optional<HalfChoice>& half) {
  const bool is_bounded = options.memory_limit != 0;
  auto device = make_cpu_device({.threads = options.threads,
                                 .memory_limit = options.memory_limit,
                                 .isa = isa_of(options.isa),
                                 .int8 = is_int8(options.arithmetic),
                                 .half = half,
                                 .keep_rounded = is_bounded ? options.memory_limit : available_memory() / 2,
                                 .pool = std::move(pool)});
  if (is_bounded) device->keep_at_most(0);  // until a plan says how much there is room for
  return device;
}

CudaArithmetic cuda_arithmetic(const EngineOptions& options) {
  if (options.arithmetic == Arithmetic::fp8) return CudaArithmetic::fp8;
  if (options.arithmetic == Arithmetic::fp8_all) return CudaArithmetic::fp8_all;
  if (options.arithmetic == Arithmetic::int8) return CudaArithmetic::int8;
  return options.held_as == HeldAs::f32 ? CudaArithmetic::f32 : CudaArithmetic::bf16;
}

std::unique_ptr<Device> make_device(DeviceKind kind, const EngineOptions& options,
                                    std::shared_ptr<HostMemory> pool = nullptr,
                                    const std::optional<HalfChoice>& half = std::nullopt) {
  switch (kind) {
    case DeviceKind::reference:
      return make_reference_device();
    case DeviceKind::cuda:
      return make_cuda_device({.index = options.device_index,
                               .arithmetic = cuda_arithmetic(options),
                               .memory_limit = options.memory_limit});
    default:
      return make_cpu(options, std::move(pool), half);
  }
}

/// An arithmetic in few bits, and who has it.
struct LossyArithmetic {
  Arithmetic arithmetic;
  std::string_view name;
  bool on_cpu, on_cuda;
  std::string_view owners;
};
constexpr LossyArithmetic kLossy[] = {{Arithmetic::int8, "int8", true, true, "cpu and cuda have"},
                                      {Arithmetic::int8_all, "int8_all", true, false, "cpu has"},
                                      {Arithmetic::half, "half", true, false, "cpu has"},
                                      {Arithmetic::fp16, "fp16", true, false, "cpu has"},
                                      {Arithmetic::bf16, "bf16", true, false, "cpu has"},
                                      {Arithmetic::fp8, "fp8", false, true, "cuda has"},
                                      {Arithmetic::fp8_all, "fp8_all", false, true, "cuda has"}};

/// What an option asks of a device is wrong usage where the device was named, else a lack of this machine.
template <class... Args>
void check_device(const EngineOptions& options, bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (ok) return;
  const std::string what = fmt::format(text, std::forward<Args>(args)...);
  if (options.device == DeviceKind::automatic) throw OptionError(what);
  throw CombinationError(what);
}

void check_arithmetic(const EngineOptions& options, DeviceKind found) {
  const LossyArithmetic* wanted = std::ranges::find(kLossy, options.arithmetic, &LossyArithmetic::arithmetic);
  if (wanted == std::end(kLossy)) return;
  check_device(options, found != DeviceKind::reference, "arithmetic {}: the reference device has none, {}",
               wanted->name, wanted->owners);
  check_device(options, found != DeviceKind::cpu || wanted->on_cpu,
               "arithmetic {}: the cpu device has none, {}; cpu has half, int8 and int8_all", wanted->name,
               wanted->owners);
  check_device(options, found != DeviceKind::cuda || wanted->on_cuda,
               "arithmetic {}: the cuda device has none, {}; cuda {}", wanted->name, wanted->owners,
               is_half(options.arithmetic) ? "multiplies bf16 without being asked to" : "has int8, fp8 and fp8_all");
  if (options.compare)
    throw CombinationError(fmt::format(
        "arithmetic {}: it rounds, so no op would agree with another device; f32 can be compared", wanted->name));
}

/// Makes a stop request take effect before the next op, on every device.
class StopPoint final : public Interceptor {
 public:
  explicit StopPoint(Kernels& next) : next_(next) {}

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

Isa isa_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::scalar:
      return Isa::scalar;
    case InstructionSet::avx2:
      return Isa::avx2;
    case InstructionSet::avx_vnni:
      return Isa::avx_vnni;
    case InstructionSet::avx512:
      return Isa::avx512;
    case InstructionSet::best:
      break;
  }
  return vector_ops().isa;
}

/// Kernels from the outermost inwards: stop, profile, a caller's, compare, compute.
struct Machine::Parts {
  Parts(const EngineOptions& options, const Decorate& decorate)
      : choice(choose_device(options.device, options.device_index)) {
    check_arithmetic(options, choice.kind);
    half = half_of(options);
    device = make_device(choice.kind, options, memory, half);
    Kernels* kernels = &device->kernels();
    if (options.compare) {
      check_device(options, !device->own_memory(),
                   "compare: ops on device {} cannot be compared; run on cpu and compare with {}", device->name(),
                   device->name());
      other = make_device(choose_device(*options.compare, options.device_index).kind, options);
      Kernels* second = other->own_memory() ? &bridge.emplace(*other) : &other->kernels();
      const bool narrow = other->narrow_type() != other->activation_type();
      kernels = &comparer.emplace(*kernels, *second, narrow ? kNarrowTolerance : kTolerance);
    }
    if (decorate) {
      decorator = decorate(*kernels);
      kernels = decorator.get();
    }
    if (options.profile) kernels = &profiler.emplace(*kernels, [this] { device->wait(); });
    const bool sees_all = decorator || options.profile || options.compare;
    ops.emplace(*device, stop.emplace(*kernels), sees_all ? Ops::Replays::no : Ops::Replays::yes);
  }

  DeviceChoice choice;
  std::shared_ptr<HostMemory> memory = std::make_shared<HostMemory>();
  std::optional<HalfChoice> half;
  std::unique_ptr<Device> device, other;
  std::optional<HostBridge> bridge;
  std::optional<Comparer> comparer;
  std::unique_ptr<Kernels> decorator;
  std::optional<Profiler> profiler;
  std::optional<StopPoint> stop;
  std::optional<Ops> ops;
};

DeviceChoice choose_device(DeviceKind wanted, const CudaFindings& found) {
  if (wanted != DeviceKind::automatic) return {wanted, {}};
  const std::string reason = obstacle_of(found).reason;
  if (reason.empty()) return {DeviceKind::cuda, {}};
  return {DeviceKind::cpu, is_unexpected(found) ? "device auto runs on cpu: " + reason : ""};
}

DeviceChoice choose_device(DeviceKind wanted, int index) {
  return choose_device(wanted, wanted == DeviceKind::automatic ? find_cuda(index) : CudaFindings());
}

Machine::Machine(const EngineOptions& options, const Decorate& decorate)
    : parts_(std::make_unique<Parts>(options, decorate)) {}
Machine::~Machine() = default;

Device& Machine::device() { return *parts_->device; }
HostMemory& Machine::memory() { return *parts_->memory; }
const DeviceChoice& Machine::choice() const { return parts_->choice; }
const std::optional<HalfChoice>& Machine::half() const { return parts_->half; }
Ops& Machine::ops() { return *parts_->ops; }
void Machine::watch(std::stop_token stop) {
  parts_->device->watch(stop);
  if (parts_->other) parts_->other->watch(stop);
  parts_->stop->watch(std::move(stop));
}

std::string Machine::take_profile() {
  if (!parts_->profiler) return {};
  std::string table = parts_->profiler->table();
  parts_->profiler->clear();
  return table;
}

std::string Machine::comparison() const {
  if (!parts_->comparer) return {};
  return fmt::format("{} calls agree with the {} device; the greatest relative error is {:.1e}",
                     parts_->comparer->calls(), parts_->other->name(), parts_->comparer->worst());
}

}  // namespace inkstone
