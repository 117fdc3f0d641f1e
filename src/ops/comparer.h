// A decorator that runs every kernel call on a second device and finds the first op that differs.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "ops/interceptor.h"

namespace inkstone {

/// Both devices must read host memory. Every call reads what the first device computed, so errors do not add up and the
/// first difference is the fault itself.
class Comparer final : public Interceptor {
 public:
  struct Difference {
    std::string op;
    int64_t call = 0;  ///< number of the call, counted from 1 over all ops
    std::vector<Shape> in;
    size_t result = 0;  ///< which of the op's results
    Shape shape;        ///< of that result
    double error = 0;   ///< relative L2

    std::string text() const;
  };
  enum class OnDifference : uint8_t {
    stop,    ///< throws Error with the difference's text
    record,  ///< keeps the first for first()
  };

  Comparer(Kernels& first, Kernels& second, double tolerance, OnDifference on_difference = OnDifference::stop)
      : first_(first), second_(second), tolerance_(tolerance), on_difference_(on_difference) {}

  const std::optional<Difference>& first() const { return difference_; }
  int64_t calls() const { return calls_; }
  double worst() const { return worst_; }  ///< greatest error of all calls

 private:
  void intercept(const Call& call) override;

  Kernels& first_;
  Kernels& second_;
  double tolerance_;
  OnDifference on_difference_;
  int64_t calls_ = 0;
  double worst_ = 0;
  std::optional<Difference> difference_;
};

}  // namespace inkstone
