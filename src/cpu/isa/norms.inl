// Sums over rows, norms and rotations. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/functions.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// The sum over a row of term(i, width), a vector whose lanes beyond `width` are 0. Four partial sums hide the latency
/// of the addition and keep its rounding small.
template <class Term>
inline float sum_of(int64_t n, const Term& term) {
  Floats a = splat(0), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = a + term(i, kLanes);
    b = b + term(i + kLanes, kLanes);
    c = c + term(i + 2 * kLanes, kLanes);
    d = d + term(i + 3 * kLanes, kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) a = a + term(i, kLanes);
  if (i < n) b = b + term(i, n - i);
  return sum((a + b) + (c + d));
}

float dot(const float* x, const float* y, int64_t n) {
  return sum_of(n, [=](int64_t i, int64_t width) { return load_some(x + i, width) * load_some(y + i, width); });
}

void guided_step(const float* x, const float* cond, const float* uncond, float scale, float factor, int64_t n,
                 float* out) {
  const auto guided = [=](int64_t i, int64_t width) {
    const Floats from = load_some(uncond + i, width);
    return fma(splat(scale), load_some(cond + i, width) - from, from);
  };
  const float squares = sum_of(n, [=](int64_t i, int64_t width) {
    const Floats y = guided(i, width);
    return y * y;
  });
  const float rescale = squares > 0 ? __builtin_sqrtf(dot(cond, cond, n) / squares) : 0.0f;
  for_vectors(n, [=](int64_t i, int64_t width) {
    const Floats velocity = guided(i, width) * splat(rescale);
    store_some(out + i, load_some(x + i, width) + splat(factor) * velocity, width);
  });
}

inline float reciprocal_root(float x) { return 1.0f / __builtin_sqrtf(x); }

template <Activation activation>
void rms_norm_with(const float* x, const float* weight, float factor, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) {
    const Floats y = load_some(x + i, width) * splat(factor) * load_some(weight + i, width);
    store_some(out + i, activate<activation>(y), width);
  });
}

void rms_norm(const float* x, const float* weight, float eps, Activation activation, int64_t n, float* out) {
  const float factor = reciprocal_root(dot(x, x, n) / static_cast<float>(n) + eps);
  switch (activation) {
    case Activation::none:
      return rms_norm_with<Activation::none>(x, weight, factor, n, out);
    case Activation::silu:
      return rms_norm_with<Activation::silu>(x, weight, factor, n, out);
    case Activation::gelu_tanh:
      return rms_norm_with<Activation::gelu_tanh>(x, weight, factor, n, out);
  }
}

/// Two passes for the statistics: E[x²] - mean² would cancel where the mean is large. The row is in the first cache.
void layer_norm_modulate(const float* x, const float* scale, const float* shift, float eps, int64_t n, float* out) {
  const auto count = static_cast<float>(n);
  const float mean = sum_of(n, [=](int64_t i, int64_t width) { return load_some(x + i, width); }) / count;
  const int64_t whole = n - n % kLanes;
  float squares = sum_of(whole, [=](int64_t i, int64_t) {
    const Floats centred = load(x + i) - splat(mean);
    return centred * centred;
  });
  for (int64_t i = whole; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float factor = reciprocal_root(squares / count + eps);
  for_vectors(n, [=](int64_t i, int64_t width) {
    const Floats normed = (load_some(x + i, width) - splat(mean)) * splat(factor);
    const Floats y = fma(normed, load_some(scale + i, width) + splat(1.0f), load_some(shift + i, width));
    store_some(out + i, y, width);
  });
}

void rope_neighbours(const float* x, const float* cos_sin, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) {
    const Floats v = load_some(x + i, width);
    const Floats angle = load_some(cos_sin + i, width);
    const Floats crossed = swap_neighbours(v) * duplicate_odd(angle);
    store_some(out + i, multiply_subtract_add(v, duplicate_even(angle), crossed), width);
  });
}

void rope_halves(const float* x, const float* cos_sin, int64_t n, float* out) {
  const int64_t half = n / 2;
  for_vectors(half, [=](int64_t i, int64_t width) {
    const int64_t in_first = 2 * width < kLanes ? 2 * width : kLanes;
    const int64_t in_second = 2 * width - in_first;
    const Floats first = load_some(cos_sin + 2 * i, in_first);
    const Floats second = in_second > 0 ? load_some(cos_sin + 2 * i + kLanes, in_second) : splat(0);
    const Floats cosine = even_lanes(first, second), sine = odd_lanes(first, second);
    const Floats a = load_some(x + i, width), b = load_some(x + half + i, width);
    store_some(out + i, fma(a, cosine, -(b * sine)), width);
    store_some(out + half + i, fma(b, cosine, a * sine), width);
  });
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
