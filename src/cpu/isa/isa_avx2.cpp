// The algorithms of table.inl in the vectors of simd_avx2.inl.
#define INKSTONE_ISA avx2
#include "cpu/isa/simd_avx2.inl"
#include "cpu/isa/table.inl"
