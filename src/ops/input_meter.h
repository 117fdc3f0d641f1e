// A decorator that measures what enters linear layers.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "ops/interceptor.h"

namespace inkstone {

/// Sums over all rows that entered layers, by the names of their matrices (Slab::name).
class InputSquares {
 public:
  /// `x` f32 (n, in), in host memory.
  void add(const Linear& layer, const Tensor& x);

  /// (in): the mean square of each input; empty if nothing entered.
  std::vector<float> means(const std::string& name) const;

 private:
  struct Sums {
    std::vector<double> squares;  // (in)
    int64_t rows = 0;
  };
  std::map<std::string, Sums, std::less<>> sums_;
};

/// Passes each call on and adds the inputs of linear layers that have names. For devices that read host memory and take
/// nothing but f32.
class InputMeter final : public Interceptor {
 public:
  /// Both must outlive this.
  InputMeter(Kernels& inner, InputSquares& squares) : inner_(inner), squares_(squares) {}

 private:
  void intercept(const Call& call) override;

  Kernels& inner_;
  InputSquares& squares_;
};

}  // namespace inkstone
