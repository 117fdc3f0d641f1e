#include "ops/profiler.h"

#include <algorithm>
#include <chrono>

namespace inkstone {
namespace {

/// GFLOP/s, or nothing for an op whose arithmetic does not count.
std::string rate(const Profiler::OpTime& time) {
  if (time.flop == 0 || time.seconds == 0) return "-";
  return fmt::format("{:.1f}", time.flop / time.seconds / 1e9);
}

std::string line(const Profiler::OpTime& time, double total) {
  const double share = total > 0 ? 100 * time.seconds / total : 0;
  return fmt::format("{:<20} {:>8} {:>10.3f} {:>6.1f}% {:>9}\n", time.op, time.calls, time.seconds, share, rate(time));
}

}  // namespace

std::vector<Profiler::OpTime> Profiler::times() const {
  std::vector<OpTime> sorted;
  for (const auto& [op, time] : times_) sorted.push_back(time);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return sorted;
}

double Profiler::seconds() const {
  double sum = 0;
  for (const auto& [op, time] : times_) sum += time.seconds;
  return sum;
}

std::string Profiler::table() const {
  const double total = seconds();
  OpTime all = {.op = "all ops"};
  std::string text = fmt::format("{:<20} {:>8} {:>10} {:>7} {:>9}\n", "op", "calls", "seconds", "share", "GFLOP/s");
  for (const OpTime& time : times()) {
    text += line(time, total);
    all.calls += time.calls;
    all.seconds += time.seconds;
    all.flop += time.flop;
  }
  return text + line(all, total);
}

void Profiler::intercept(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  call.run(inner_, call.out);
  wait_();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;

  OpTime& time = times_.try_emplace(std::string(call.op), OpTime{.op = std::string(call.op)}).first->second;
  ++time.calls;
  time.seconds += taken.count();
  time.flop += call.flop;
}

}  // namespace inkstone
