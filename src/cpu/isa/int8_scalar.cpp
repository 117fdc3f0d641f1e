// The algorithms of table_int8.inl in the vectors of simd_int8_scalar.inl.
#define INKSTONE_ISA scalar
#include "cpu/isa/simd_int8_scalar.inl"
#include "cpu/isa/table_int8.inl"
