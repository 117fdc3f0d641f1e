// What a machine has for the cuda device, and what of that is in the way of using it. Knows nothing of CUDA, so that
// tests can make machines up.
#pragma once
#include <fmt/format.h>
#include <string>

namespace inkstone {

struct CudaFindings {
  /// A version of CUDA as it counts them, 13010 for 13.1.
  static constexpr int kMajor = 1000;
  static constexpr int kMinor = 10;
  static constexpr int kOldestDevice = 8;  ///< Ampere: bf16 in the tensor cores

  bool is_built = false;      ///< into this program
  int program = 0;            ///< the version that it was built with
  int driver = 0;             ///< the newest version that the driver knows; 0: no driver
  std::string fault;          ///< CUDA's words, where it cannot tell its devices
  int devices = 0;            ///< how many there are
  int index = 0;              ///< which of them is wanted; what follows is of it
  std::string name;           ///< the product's
  int major = 0, minor = 0;   ///< its compute capability
  std::string library_fault;  ///< why cuBLASLt cannot be opened; empty if it can
};

/// Why the device that is wanted cannot be used, and what can be done about it; both are empty if it can.
struct CudaObstacle {
  std::string reason, remedy;

  std::string text() const { return reason.empty() ? "" : fmt::format("{}; run on cpu, or {}", reason, remedy); }
};

inline CudaObstacle obstacle_of(const CudaFindings& f) {
  const auto version = [](int v) {
    return fmt::format("{}.{}", v / CudaFindings::kMajor, v % CudaFindings::kMajor / CudaFindings::kMinor);
  };
  if (!f.is_built) return {"this program was built without CUDA", "build it where nvcc is installed"};
  const int needed = f.program / CudaFindings::kMajor;
  if (f.driver == 0) return {"no NVIDIA driver was found", fmt::format("install one for CUDA {} or newer", needed)};
  if (f.driver / CudaFindings::kMajor < needed)
    return {fmt::format("the NVIDIA driver is for CUDA {}, this program for {}", version(f.driver), version(f.program)),
            "install a newer driver"};
  if (!f.fault.empty()) return {f.fault, "see what nvidia-smi says"};
  if (f.devices == 0) return {"no GPU was found", "let this process see one"};
  if (f.index < 0 || f.index >= f.devices)
    return {fmt::format("the number of GPUs is {}, counted from 0", f.devices),
            f.devices == 1 ? "on cuda:0" : fmt::format("on one of cuda:0 to cuda:{}", f.devices - 1)};
  if (f.major < CudaFindings::kOldestDevice)
    return {fmt::format("{} has compute capability {}.{}, {}.0 is needed", f.name, f.major, f.minor,
                        CudaFindings::kOldestDevice),
            "on a newer GPU"};
  if (!f.library_fault.empty()) return {f.library_fault, "install it"};
  return {};
}

/// Whether somebody may wonder why there is an obstacle: this program could use a GPU, and there is a driver for one.
inline bool is_unexpected(const CudaFindings& f) { return f.is_built && f.driver != 0; }

}  // namespace inkstone
