#include "cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/thread_pool.h"
#include "cpu/int8_ops.h"
#include "cpu/vector_ops.h"

namespace inkstone {
namespace {

constexpr int kRuns = 5;
constexpr double kRunSeconds = 0.02;  // long enough to hide the pool's start, short enough for an undisturbed run

/// `chains(rounds, worker)` must give something that depends on all of its work.
template <class Chains>
double seconds_of(ThreadPool& pool, int64_t rounds, const Chains& chains) {
  std::atomic<float> used = 0;
  const auto start = std::chrono::steady_clock::now();
  pool.run(pool.threads(), [&](int64_t, int worker) { used.store(chains(rounds, worker), std::memory_order_relaxed); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Chains>
double measure(int threads, int64_t multiply_adds_per_round, const Chains& chains) {
  ThreadPool pool(threads);
  int64_t rounds = int64_t{1} << 16;
  while (seconds_of(pool, rounds, chains) < kRunSeconds) rounds *= 2;
  double best = seconds_of(pool, rounds, chains);
  for (int run = 1; run < kRuns; ++run) best = std::min(best, seconds_of(pool, rounds, chains));
  return 2.0 * static_cast<double>(multiply_adds_per_round * rounds * threads) / best;
}

}  // namespace

double measure_f32_peak(int threads) { return measure_f32_peak_of(vector_ops().isa, threads); }
double measure_int8_peak(int threads) { return measure_int8_peak_of(vector_ops().isa, threads); }

double measure_f32_peak_of(Isa isa, int threads) {
  const VectorOps& ops = vector_ops(isa);
  return measure(threads, ops.multiply_adds_per_round, [&](int64_t rounds, int worker) {
    return ops.multiply_add_chains(rounds, static_cast<float>(worker));
  });
}

double measure_int8_peak_of(Isa isa, int threads) {
  const Int8Ops& ops = int8_ops(isa);
  return measure(threads, ops.multiply_adds_per_round, [&](int64_t rounds, int worker) {
    return static_cast<float>(ops.multiply_add_chains(rounds, static_cast<int8_t>(worker & 1)));
  });
}

double measure_half_peak(const HalfOps& ops, int threads) {
  return measure(threads, ops.multiply_adds_per_round, [&](int64_t rounds, int worker) {
    return ops.multiply_add_chains(rounds, static_cast<float>(worker));
  });
}

}  // namespace inkstone
