// Pointwise functions of rows. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/functions.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

void exp_row(const float* x, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) { store_some(out + i, exp(load_some(x + i, width)), width); });
}

template <Activation activation>
void epilogue_with(const float* x, const RowEpilogue& e, int64_t n, float* out) {
  const float *bias = e.bias, *gate = e.gate, *residual = e.residual;
  for_vectors(n, [=](int64_t i, int64_t width) {
    Floats y = load_some(x + i, width);
    if (bias) y = y + load_some(bias + i, width);
    y = activate<activation>(y);
    if (gate) y = y * load_some(gate + i, width);
    if (residual) y = y + load_some(residual + i, width);
    store_some(out + i, y, width);
  });
}

void epilogue(const float* x, const RowEpilogue& e, int64_t n, float* out) {
  switch (e.activation) {
    case Activation::none:
      return epilogue_with<Activation::none>(x, e, n, out);
    case Activation::silu:
      return epilogue_with<Activation::silu>(x, e, n, out);
    case Activation::gelu_tanh:
      return epilogue_with<Activation::gelu_tanh>(x, e, n, out);
  }
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) {
    store_some(out + i, silu(load_some(gate + i, width)) * load_some(up + i, width), width);
  });
}

void add_scaled(const float* x, const float* y, float factor, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) {
    store_some(out + i, load_some(x + i, width) + splat(factor) * load_some(y + i, width), width);
  });
}

void scale_shift(const float* x, const float* scale, const float* shift, int64_t n, float* out) {
  for_vectors(n, [=](int64_t i, int64_t width) {
    store_some(out + i, load_some(x + i, width) * load_some(scale + i, width) + load_some(shift + i, width), width);
  });
}

void add_shares(const float* x, int64_t n, float* shares) {
  constexpr int64_t kSums = 64;  // whatever a vector holds; one sum would wait for each addition
  Floats sums[kSums / kLanes];
  for (Floats& s : sums) s = splat(0);
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (int64_t v = 0; v < kSums / kLanes; ++v) {
      const Floats numbers = load(x + i + v * kLanes);
      sums[v] = sums[v] + numbers * numbers;
    }
  float all[kSums];
  for (int64_t v = 0; v < kSums / kLanes; ++v) store(all + v * kLanes, sums[v]);
  float total = 0;
  for (; i < n; ++i) total += x[i] * x[i];
  for (const float s : all) total += s;
  if (!(total > 0)) return;  // NaN too
  const Floats share = splat(1 / total);
  for_vectors(n, [=](int64_t k, int64_t width) {
    const Floats numbers = load_some(x + k, width);
    store_some(shares + k, load_some(shares + k, width) + numbers * numbers * share, width);
  });
}

void to_bytes(const float* x, int64_t n, uint8_t* out) {
  const auto level = [](Floats v) {
    const Floats scaled = fma(v, splat(127.5f), splat(127.5f));
    return nearest(lesser(splat(255.0f), greater(scaled, splat(0.0f))));
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bytes(out + i, level(load(x + i)));
  if (i == n) return;
  uint8_t last[kLanes];
  store_bytes(last, level(load_first(x + i, n - i)));
  __builtin_memcpy(out + i, last, static_cast<std::size_t>(n - i));
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
