// What the ladders of kernels share: memory, steps, their times.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <functional>
#include <string>
#include <vector>

#include "peaks.h"

namespace ladder {

constexpr int kWarmRounds = 5, kRounds = 31;

inline void must(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(EXIT_FAILURE);
}
inline void must(cudaError_t status, const char* what) {
  must(status == cudaSuccess, std::string(what) + ": " + cudaGetErrorString(status));
}

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) : count_(count) { must(cudaMalloc(&data_, bytes()), "taking memory"); }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }
  size_t bytes() const { return count_ * sizeof(T); }
  /// A copy of what work left there.
  std::vector<T> host() const { return host(0, count_); }
  std::vector<T> host(size_t first, size_t count) const {
    std::vector<T> numbers(count);
    must(cudaMemcpy(numbers.data(), data_ + first, count * sizeof(T), cudaMemcpyDefault), "checking");
    return numbers;
  }
  void take(const std::vector<T>& numbers) const {
    must(numbers.size() == count_, "as many numbers as there is room for");
    must(cudaMemcpy(data_, numbers.data(), bytes(), cudaMemcpyDefault), "copying");
  }
  /// NaN in every float type.
  void poison() const { must(cudaMemset(data_, 0xff, bytes()), "poisoning"); }

 private:
  T* data_ = nullptr;
  size_t count_;
};

/// ‖got - right‖ / ‖right‖, number by number; not a number if one is none.
class RelativeError {
 public:
  void add(double got, double right) {
    off_ += (got - right) * (got - right);
    whole_ += right * right;
  }
  double value() const { return std::sqrt(off_ / whole_); }

 private:
  double off_ = 0, whole_ = 0;
};

inline void print_error(const std::string& name, double error, double most) {
  std::printf("  %-36s %.2e off\n", name.c_str(), error);
  must(error < most, name + ": the error is too large");
}

/// One line of the table.
struct Step {
  std::string name;
  std::function<void(int round)> work;
  double bytes = 0;  ///< moved, where that is its limit; else it is the product
};

/// Medians in ms. The steps take turns, so that the clocks are the same for all.
inline std::vector<double> times_of(const std::vector<Step>& steps) {
  std::vector<std::vector<float>> times(steps.size());
  std::vector<std::array<cudaEvent_t, 2>> events(steps.size());
  for (auto& pair : events)
    for (cudaEvent_t& event : pair) must(cudaEventCreate(&event), "making an event");
  for (int round = -kWarmRounds; round < kRounds; ++round) {
    for (size_t i = 0; i < steps.size(); ++i) {
      must(cudaEventRecord(events[i][0]), "timing");
      steps[i].work(round + kWarmRounds);
      must(cudaEventRecord(events[i][1]), "timing");
    }
    must(cudaDeviceSynchronize(), "running");
    for (size_t i = 0; i < steps.size() && round >= 0; ++i)
      must(cudaEventElapsedTime(&times[i].emplace_back(), events[i][0], events[i][1]), "timing");
  }
  for (auto& pair : events)
    for (const cudaEvent_t event : pair) cudaEventDestroy(event);
  std::vector<double> medians;
  for (std::vector<float>& t : times) {
    std::nth_element(t.begin(), t.begin() + kRounds / 2, t.end());
    medians.push_back(double{t[kRounds / 2]});
  }
  return medians;
}

/// How long each product is repeated without a pause, beside its turns: INKSTONE_LADDER_SECONDS; 0: not at all. The
/// card's power, and with it the clock, follows in a tenth of a second.
inline double lasting_seconds() {
  const char* seconds = std::getenv("INKSTONE_LADDER_SECONDS");
  return seconds == nullptr ? 0 : std::atof(seconds);
}

/// What a step takes under lasting load, in ms: the median of the second half of so many seconds.
inline double lasting_ms(const Step& step, double alone_ms, double seconds) {
  constexpr double kBatchMs = 20;
  const int batch = std::max(1, static_cast<int>(kBatchMs / alone_ms));
  std::array<cudaEvent_t, 2> events;
  for (cudaEvent_t& event : events) must(cudaEventCreate(&event), "making an event");
  std::vector<float> times;
  for (double passed = 0; passed < 1e3 * seconds; passed += double{times.back()}) {
    must(cudaEventRecord(events[0]), "timing");
    for (int i = 0; i < batch; ++i) step.work(i);
    must(cudaEventRecord(events[1]), "timing");
    must(cudaEventSynchronize(events[1]), "running");
    must(cudaEventElapsedTime(&times.emplace_back(), events[0], events[1]), "timing");
  }
  for (const cudaEvent_t event : events) cudaEventDestroy(event);
  const auto half = times.begin() + static_cast<ptrdiff_t>(times.size() / 2), middle = half + (times.end() - half) / 2;
  std::nth_element(half, middle, times.end());
  return double{*middle} / batch;
}

/// Of this run's large copy, in bytes a second; print_head() measures it.
inline double copy_rate = 0;

/// `flop`: of a product. Ratios are to the first step.
inline void print_times(double flop, const std::vector<Step>& steps) {
  const std::vector<double> times = times_of(steps);
  const double seconds = lasting_seconds();
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    std::printf("  %-28s %8.4f ms  ", step.name.c_str(), times[i]);
    if (step.bytes == 0) {
      std::printf("%6.0f T/s  %.2f of the first's time\n", flop / times[i] * 1e-9, times[i] / times[0]);
      if (seconds <= 0) continue;
      const double lasting = lasting_ms(step, times[i], seconds);
      std::printf("    under lasting load         %8.4f ms  %6.0f T/s\n", lasting, flop / lasting * 1e-9);
    } else {
      const double rate = step.bytes / times[i] * 1e3;
      std::printf("%6.0f GB/s  %.2f of a large copy's\n", rate * 1e-9, rate / copy_rate);
    }
  }
}

/// What every ladder begins with; `times`: what those that it prints are.
inline void print_head(const std::string& times = "medians of " + std::to_string(kRounds)) {
  cudaDeviceProp device = {};
  must(cudaGetDeviceProperties(&device, 0), "finding a device");
  std::printf("%s; %s\n", device.name, times.c_str());
  copy_rate = print_peaks();
}

}  // namespace ladder
