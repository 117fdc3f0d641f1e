// The algorithms of table.inl in the vectors of simd_scalar.inl.
#define INKSTONE_ISA scalar
#include "cpu/isa/simd_scalar.inl"
#include "cpu/isa/table.inl"
