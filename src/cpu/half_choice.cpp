#include "cpu/half_choice.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace inkstone {
namespace {

constexpr double kClearly = 1.25;    // times the rate of f32: rounding and short sums take some of what is gained
constexpr int kRuns = 4;             // of each kind in turns; the best counts, as others may be at work
constexpr int64_t kRounds = 20'000;  // about 0.1 ms

/// One core's chains of products, whose best rate so far it keeps.
class Chains {
 public:
  Chains(float (*run)(int64_t rounds, float start), int64_t multiply_adds)
      : run_(run), multiply_adds_(static_cast<double>(multiply_adds * kRounds)) {}

  void measure() {
    const auto start = std::chrono::steady_clock::now();
    volatile float used = run_(kRounds, 1);
    static_cast<void>(used);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    rate_ = std::max(rate_, multiply_adds_ / seconds.count());
  }
  double rate() const { return rate_; }

 private:
  float (*run_)(int64_t rounds, float start);
  double multiply_adds_;
  double rate_ = 0;
};

HalfChoice measured_half(Isa isa) {
  const HalfOps *fp16 = half_ops(isa, HalfKind::fp16), *bf16 = half_ops(isa, HalfKind::bf16);
  if (fp16 == nullptr && bf16 == nullptr) return {};
  const VectorOps& vector = vector_ops(isa);
  Chains f32(vector.multiply_add_chains, vector.multiply_adds_per_round);
  const auto chains_of = [&](const HalfOps* ops) {
    return ops == nullptr ? f32 : Chains(ops->multiply_add_chains, ops->multiply_adds_per_round);
  };
  Chains in_fp16 = chains_of(fp16), in_bf16 = chains_of(bf16);
  for (int run = 0; run < kRuns; ++run)
    for (Chains* chains : {&f32, &in_fp16, &in_bf16}) chains->measure();
  const HalfRates rates = {
      .f32 = f32.rate(), .fp16 = fp16 == nullptr ? 0 : in_fp16.rate(), .bf16 = bf16 == nullptr ? 0 : in_bf16.rate()};
  const std::optional<HalfKind> kind = fastest_kind(rates);
  return {.ops = kind ? half_ops(isa, *kind) : nullptr, .rates = rates};
}

}  // namespace

std::optional<HalfKind> fastest_kind(const HalfRates& rates) {
  if (std::max(rates.fp16, rates.bf16) <= kClearly * rates.f32) return std::nullopt;
  return rates.fp16 >= rates.bf16 ? HalfKind::fp16 : HalfKind::bf16;
}

HalfChoice fastest_half(Isa isa) {
  if (isa != Isa::avx512) return {};  // no other has such products
  static const HalfChoice choice = measured_half(Isa::avx512);
  return choice;
}

HalfChoice chosen_half(Isa isa, HalfKind kind) {
  const HalfOps* ops = half_ops(isa, kind);
  check(ops != nullptr,
        "arithmetic {}: this processor has no such products with {}; half takes the fastest that it has", name_of(kind),
        name_of(isa));
  return {.ops = ops};
}

const char* name_of(const HalfChoice& choice) { return choice.ops == nullptr ? "f32" : name_of(choice.ops->kind); }

}  // namespace inkstone
