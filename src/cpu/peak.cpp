#include "cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/thread_pool.h"
#include "cpu/vector_ops.h"

namespace inkstone {
namespace {

constexpr int kRuns = 5;
constexpr double kRunSeconds = 0.02;  // long enough to hide the pool's start, short enough for an undisturbed run

double seconds_of(ThreadPool& pool, int64_t rounds) {
  const VectorOps& ops = vector_ops();
  std::atomic<float> used = 0;
  const auto start = std::chrono::steady_clock::now();
  pool.run(pool.threads(), [&](int64_t index, int) {
    used.store(ops.multiply_add_chains(rounds, static_cast<float>(index)), std::memory_order_relaxed);
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double measure_f32_peak(int threads) {
  ThreadPool pool(threads);
  int64_t rounds = int64_t{1} << 16;
  while (seconds_of(pool, rounds) < kRunSeconds) rounds *= 2;
  double best = seconds_of(pool, rounds);
  for (int run = 1; run < kRuns; ++run) best = std::min(best, seconds_of(pool, rounds));
  const double operations = 2.0 * static_cast<double>(vector_ops().multiply_adds_per_round * rounds * threads);
  return operations / best;
}

}  // namespace inkstone
