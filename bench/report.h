// What the benchmarks of arithmetic share.
#pragma once
#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/peak.h"
#include "engine/timing.h"
#include "ops/random_tensors.h"

namespace inkstone {

/// GCC's OpenMP lets oneDNN's threads turn for some 15 ms after a call, on the processors of whoever comes next.
constexpr std::chrono::milliseconds kUntilOthersSleep{30};

inline bool any_gave_up = false;  // for main()

/// Ends a benchmark that cannot run here.
inline void give_up(benchmark::State& state, const std::string& reason) {
  any_gave_up = true;
  state.SkipWithError(reason.c_str());
}

/// For work that takes turns with other work.
inline double seconds_of(const auto& work) {
  std::this_thread::sleep_for(kUntilOthersSleep);
  const auto start = Clock::now();
  work();
  return seconds_since(start);
}

/// Reports operations a second and their share of the peak, taken as the better of before and after.
inline void report(benchmark::State& state, double flop, double peak_before,
                   const std::function<double(int threads)>& measure_peak = measure_f32_peak) {
  const double peak = std::max(peak_before, measure_peak(usable_processors()));
  state.counters["FLOP/s"] = benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_peak"] = benchmark::Counter(flop / peak, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["peak"] = peak;
}

}  // namespace inkstone
