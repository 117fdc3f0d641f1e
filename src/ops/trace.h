// A decorator that writes down every kernel call.
#pragma once
#include <string>
#include <vector>

#include "ops/interceptor.h"

namespace inkstone {

/// Logs each call and passes it on. Without kernels to pass it on to it is a dry run: on a DryDevice the same model
/// code then tells the work and the peak memory of a run without doing it.
class Trace final : public Interceptor {
 public:
  struct Entry {
    std::string op;
    std::vector<Shape> in, out;  ///< of the activations
    size_t bytes = 0;            ///< of all these, read and written
    double flop = 0;

    std::string text() const;  ///< "linear [4, 8] [4, 16] -> [4, 16]  0.6 kB  1.0 kFLOP"
  };
  struct Totals {
    size_t calls = 0;
    size_t bytes = 0;
    double flop = 0;
  };

  Trace() = default;
  explicit Trace(Kernels& inner) : inner_(&inner) {}

  const std::vector<Entry>& entries() const { return entries_; }
  Totals totals() const;
  std::string text() const;  ///< one line per call
  void clear() { entries_.clear(); }

 private:
  void intercept(const Call& call) override;

  Kernels* inner_ = nullptr;
  std::vector<Entry> entries_;
};

}  // namespace inkstone
