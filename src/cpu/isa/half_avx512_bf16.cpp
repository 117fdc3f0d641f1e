// The algorithms of half.inl with the products of simd_half_bf16.inl.
#define INKSTONE_ISA avx512
#include "cpu/isa/simd_half_bf16.inl"
// With what follows from them.
#include "cpu/isa/half.inl"
#include "cpu/isa/half_tables.h"

namespace inkstone::avx512 {
const HalfOps kBf16Ops = kHalfOps;
}
