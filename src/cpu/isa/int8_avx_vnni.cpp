// The algorithms of table_int8.inl in the vectors of simd_int8_avx_vnni.inl.
#define INKSTONE_ISA avx_vnni
#include "cpu/isa/simd_int8_avx_vnni.inl"
#include "cpu/isa/table_int8.inl"
// With what follows from them.
#include "cpu/isa/int8_attention.inl"
