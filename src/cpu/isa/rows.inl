// Pointwise functions of rows, and the numbers of other formats. INKSTONE_ISA names the instruction set.
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

/// Converts `count` numbers per call of load_lanes, which reads a whole vector's worth of T; the last ones are padded.
template <class T, class Load>
inline void expand(const T* x, int64_t n, float* out, const Load& load_lanes) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load_lanes(x + i));
  if (i == n) return;
  T last[kLanes] = {};
  __builtin_memcpy(last, x + i, static_cast<std::size_t>(n - i) * sizeof(T));
  store_first(out + i, load_lanes(last), n - i);
}

void expand_bf16(const uint16_t* x, int64_t n, float* out) {
  expand(x, n, out, [](const uint16_t* p) { return load_bf16(p); });
}

void expand_f16(const uint16_t* x, int64_t n, float* out) {
  expand(x, n, out, [](const uint16_t* p) { return load_f16(p); });
}

/// Codes of `bits` bits, group by group. Groups that are no multiple of a vector end in a padded one.
template <int bits, class Load>
inline void expand_affine(const uint32_t* words, const float* scale, const float* offset, int64_t group, int64_t n,
                          float* out, const Load& load_lanes) {
  const auto* codes = reinterpret_cast<const uint8_t*>(words);
  constexpr int64_t kBytes = kLanes * bits / 8;
  for (int64_t begin = 0; begin < n; begin += group, ++scale, ++offset) {
    const Floats s = splat(*scale), o = splat(*offset);
    const int64_t end = begin + group < n ? begin + group : n;
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes, codes += kBytes) store(out + i, load_lanes(codes) * s + o);
    if (i == end) continue;
    uint8_t last[kBytes] = {};
    const int64_t rest = (end - i) * bits / 8;
    __builtin_memcpy(last, codes, static_cast<std::size_t>(rest));
    store_first(out + i, load_lanes(last) * s + o, end - i);
    codes += rest;
  }
}

void expand_affine4(const uint32_t* words, const float* scale, const float* offset, int64_t group, int64_t n,
                    float* out) {
  expand_affine<4>(words, scale, offset, group, n, out, [](const uint8_t* p) { return load_nibbles(p); });
}

void expand_affine8(const uint32_t* words, const float* scale, const float* offset, int64_t group, int64_t n,
                    float* out) {
  expand_affine<8>(words, scale, offset, group, n, out, [](const uint8_t* p) { return load_bytes(p); });
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
