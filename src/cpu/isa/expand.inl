// Weights as f32. INKSTONE_ISA names the instruction set.
#pragma once
#include "cpu/isa/functions.inl"
#include "ops/expand.inl"

namespace inkstone::INKSTONE_ISA {
namespace {

/// Converts a vector's worth of numbers per call of load_lanes; the last ones are padded.
template <class Load>
inline void expand_halves(const uint8_t* x, int64_t n, float* out, const Load& load_lanes) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load_lanes(reinterpret_cast<const uint16_t*>(x) + i));
  if (i == n) return;
  uint16_t last[kLanes] = {};
  __builtin_memcpy(last, x + 2 * i, static_cast<std::size_t>(2 * (n - i)));
  store_first(out + i, load_lanes(last), n - i);
}

void expand_bf16(const PackedRow& row, int64_t n, float* out) {
  expand_halves(row.blocks, n, out, [](const uint16_t* p) { return load_bf16(p); });
}

void expand_f16(const PackedRow& row, int64_t n, float* out) {
  expand_halves(row.blocks, n, out, [](const uint16_t* p) { return load_f16(p); });
}

/// Codes of `bits` bits, group by group. Groups that are no multiple of a vector end in a padded one.
template <int bits, class Load>
inline void expand_affine(const PackedRow& row, int64_t n, float* out, const Load& load_lanes) {
  constexpr int64_t kBytes = kLanes * bits / 8;
  const uint8_t* codes = row.blocks;
  const float *scale = row.scales, *offset = row.offsets;
  for (int64_t begin = 0; begin < n; begin += row.group, ++scale, ++offset) {
    const Floats s = splat(*scale), o = splat(*offset);
    const int64_t end = begin + row.group < n ? begin + row.group : n;
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

void expand_affine4(const PackedRow& row, int64_t n, float* out) {
  expand_affine<4>(row, n, out, [](const uint8_t* p) { return load_nibbles(p); });
}

void expand_affine8(const PackedRow& row, int64_t n, float* out) {
  expand_affine<8>(row, n, out, [](const uint8_t* p) { return load_bytes(p); });
}

/// Formats without loops of their own have the plain ones, compiled for these vectors.
Expand expander(WeightFormat format) {
  switch (format) {
    case WeightFormat::f16:
      return expand_f16;
    case WeightFormat::bf16:
      return expand_bf16;
    case WeightFormat::affine4:
      return expand_affine4;
    case WeightFormat::affine8:
      return expand_affine8;
    default:
      return plain_expander(format);
  }
}

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
