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

/// Of this run's large copy, in bytes a second; print_head() measures it.
inline double copy_rate = 0;

/// `flop`: of a product. Ratios are to the first step.
inline void print_times(double flop, const std::vector<Step>& steps) {
  const std::vector<double> times = times_of(steps);
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    std::printf("  %-28s %8.4f ms  ", step.name.c_str(), times[i]);
    if (step.bytes == 0) {
      std::printf("%6.0f T/s  %.2f of the first's time\n", flop / times[i] * 1e-9, times[i] / times[0]);
    } else {
      const double rate = step.bytes / times[i] * 1e3;
      std::printf("%6.0f GB/s  %.2f of a large copy's\n", rate * 1e-9, rate / copy_rate);
    }
  }
}

/// What every ladder begins with.
inline void print_head() {
  cudaDeviceProp device = {};
  must(cudaGetDeviceProperties(&device, 0), "finding a device");
  std::printf("%s; medians of %d\n", device.name, kRounds);
  copy_rate = print_peaks();
}

}  // namespace ladder
