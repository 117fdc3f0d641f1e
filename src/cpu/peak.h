// What this machine's processors can do at most, to measure kernels against.
#pragma once
#include "cpu/half_ops.h"
#include "cpu/vector_ops.h"

namespace inkstone {

/// f32 operations a second of so many threads with the best instruction set, a multiply-add counted as two: the best of
/// several short runs. Takes about a tenth of a second.
double measure_f32_peak(int threads);

/// The same for 8-bit products of whole numbers.
double measure_int8_peak(int threads);

/// The same for one instruction set.
double measure_f32_peak_of(Isa isa, int threads);
double measure_int8_peak_of(Isa isa, int threads);
/// The same for a kind of 16-bit products.
double measure_half_peak(const HalfOps& ops, int threads);

}  // namespace inkstone
