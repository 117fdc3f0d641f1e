// The tables that the instruction sets' files define; vector_ops.cpp chooses among them.
#pragma once
#include "cpu/vector_ops.h"

namespace inkstone {

namespace scalar {
extern const VectorOps kVectorOps;
}
namespace avx2 {
extern const VectorOps kVectorOps;
}
namespace avx512 {
extern const VectorOps kVectorOps;
}

}  // namespace inkstone
