// The tables of 16-bit products that the kinds' files define; half_ops.cpp chooses among them.
#pragma once
#include "cpu/half_ops.h"

namespace inkstone::avx512 {
extern const HalfOps kFp16Ops;
extern const HalfOps kBf16Ops;
}  // namespace inkstone::avx512
