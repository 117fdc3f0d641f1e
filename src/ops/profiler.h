// A decorator that measures every kernel call.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ops/interceptor.h"

namespace inkstone {

/// Passes each call on and sums its time and work per op.
class Profiler final : public Interceptor {
 public:
  struct OpTime {
    std::string op;
    int64_t calls = 0;
    double seconds = 0;
    double flop = 0;
  };

  /// `wait` returns when all work is done: a device that only queues it would seem to take no time.
  explicit Profiler(
      Kernels& inner, std::function<void()> wait = [] {})
      : inner_(inner), wait_(std::move(wait)) {}

  std::vector<OpTime> times() const;  ///< the longest first
  double seconds() const;             ///< of all ops

  /// A line per op (calls, seconds, share of all ops' time, GFLOP/s) and one for the sum.
  std::string table() const;
  void clear() { times_.clear(); }

 private:
  void intercept(const Call& call) override;

  Kernels& inner_;
  std::function<void()> wait_;
  std::map<std::string, OpTime, std::less<>> times_;
};

}  // namespace inkstone
