// The algorithms of table.inl in the vectors of simd_avx512.inl.
#define INKSTONE_ISA avx512
#include "cpu/isa/simd_avx512.inl"
#include "cpu/isa/table.inl"
