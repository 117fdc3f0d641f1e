// The algorithms of table_int8.inl in the vectors of simd_int8_avx2.inl.
#define INKSTONE_ISA avx2
#include "cpu/isa/simd_int8_avx2.inl"
#include "cpu/isa/table_int8.inl"
