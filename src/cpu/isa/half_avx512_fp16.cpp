// The algorithms of half.inl with the products of simd_half_fp16.inl.
#define INKSTONE_ISA avx512
#include "cpu/isa/simd_half_fp16.inl"
// With what follows from them.
#include "cpu/isa/half.inl"
#include "cpu/isa/half_tables.h"

namespace inkstone::avx512 {
const HalfOps kFp16Ops = kHalfOps;
}
