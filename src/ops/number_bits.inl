// Numbers from their bits, for ops/expand.inl. No std templates: see cpu/vector_ops.h.
#pragma once
#include <cstdint>

// The cuda device compiles these files for its processor too.
#ifdef __CUDACC__
#define INKSTONE_ANYWHERE __host__ __device__
#else
#define INKSTONE_ANYWHERE
#endif

namespace inkstone {
namespace {

template <class T>
INKSTONE_ANYWHERE inline T bits_at(const uint8_t* bytes) {
  T bits;
  __builtin_memcpy(&bits, bytes, sizeof bits);
  return bits;
}

/// The bits of a single.
INKSTONE_ANYWHERE inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/// As a single's exponent and fraction a half is 2^112 times too small; multiplying also mends subnormals.
INKSTONE_ANYWHERE inline float half_of(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fffu;
  const uint32_t sign = (bits & 0x8000u) << 16;
  const float finite = float_of(magnitude << 13) * 0x1p112f;
  const float special = float_of((magnitude << 13) | 0x7f800000u);  // infinities and NaN
  const float x = magnitude >= 0x7c00u ? special : finite;
  return sign != 0 ? -x : x;
}

}  // namespace
}  // namespace inkstone
