// exp and the activations on vectors. INKSTONE_ISA names the instruction set.
#pragma once

namespace inkstone::INKSTONE_ISA {
namespace {

/// 2^f for f in [-1/2, 1/2]: 1 + f q(f), q the Chebyshev interpolation of (2^f - 1) / f; relative error 9e-9.
inline Floats exp2_fraction(Floats f) {
  Floats q = splat(1.5453163e-4f);
  q = fma(q, f, splat(1.3390863e-3f));
  q = fma(q, f, splat(9.6180830e-3f));
  q = fma(q, f, splat(5.5503570e-2f));
  q = fma(q, f, splat(2.4022651e-1f));
  q = fma(q, f, splat(6.9314718e-1f));
  return fma(q, f, splat(1.0f));
}

/// 2^x; 0 below the least subnormal, infinity where f32 ends, NaN for NaN.
inline Floats exp2(Floats x) {
  x = lesser(splat(129.0f), greater(splat(-151.0f), x));
  const Floats n = nearest(x);
  return times_power_of_two(exp2_fraction(x - n), n);
}

/// e^x with the same limits. ln 2 comes in two parts, so that x - n ln 2 is exact to f32 without a fused multiply-add.
inline Floats exp(Floats x) {
  constexpr float kLog2e = 1.44269504f;
  constexpr float kLn2 = 0.693359375f;  // 9 bits: n times it is exact
  constexpr float kLn2Rest = -2.12194440e-4f;
  x = lesser(splat(89.5f), greater(splat(-104.5f), x));
  const Floats n = nearest(x * splat(kLog2e));
  const Floats rest = fma(n, splat(-kLn2Rest), fma(n, splat(-kLn2), x));
  return times_power_of_two(exp2_fraction(rest * splat(kLog2e)), n);
}

inline Floats silu(Floats x) { return x / (splat(1.0f) + exp(-x)); }

/// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x³)
inline Floats gelu_tanh(Floats x) {
  constexpr float kLinear = -1.5957691f;  // -2 sqrt(2 / pi)
  constexpr float kCubic = kLinear * 0.044715f;
  const Floats minus_2u = x * fma(x * x, splat(kCubic), splat(kLinear));
  return x / (splat(1.0f) + exp(minus_2u));
}

template <Activation activation>
inline Floats activate(Floats x) {
  if constexpr (activation == Activation::silu) return silu(x);
  if constexpr (activation == Activation::gelu_tanh) return gelu_tanh(x);
  return x;
}

/// Calls each(i, width) for the vectors of a row, where width is kLanes, and last for what remains.
template <class Each>
inline void for_vectors(int64_t n, const Each& each) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) each(i, kLanes);
  if (i < n) each(i, n - i);
}

inline Floats load_some(const float* p, int64_t n) { return n == kLanes ? load(p) : load_first(p, n); }

inline void store_some(float* p, Floats v, int64_t n) {
  if (n == kLanes)
    store(p, v);
  else
    store_first(p, v, n);
}

/// The same memory, of which the compiler forgets what it holds: g++ 12 would keep a second copy on the stack.
inline float* forget(float* memory) {
  asm volatile("" : "+r"(memory) : : "memory");
  return memory;
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
