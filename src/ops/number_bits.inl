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

INKSTONE_ANYWHERE inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// All bits where `is`, else none: compilers make vectors of this, not of a choice.
INKSTONE_ANYWHERE inline uint32_t mask_of(bool is) { return 0u - static_cast<uint32_t>(is); }

/// A number of an IEEE format without its sign, whose exponent is `raise` less than a single's: `magnitude` has its
/// bits at a single's place. Subnormal ones (below `least`, the bits of the least normal number) are taken as normal
/// ones of the least exponent, with a one in front that is subtracted: arithmetic with subnormals would be very slow.
INKSTONE_ANYWHERE inline float raised(uint32_t magnitude, uint32_t raise, uint32_t least) {
  const uint32_t subnormal = mask_of(magnitude < least);
  const float one_in_front = float_of(((raise + 1) << 23) & subnormal);
  return float_of(magnitude + (raise << 23) + ((1u << 23) & subnormal)) - one_in_front;
}

INKSTONE_ANYWHERE inline float half_of(uint32_t bits) {
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  const float finite = raised(magnitude, 127 - 15, 1u << 23);
  const uint32_t special = 0x7f800000u & mask_of(magnitude >= 0x7c00u << 13);  // infinities and NaN
  return float_of(bits_of(finite) | special | (bits & 0x8000u) << 16);
}

}  // namespace
}  // namespace inkstone
