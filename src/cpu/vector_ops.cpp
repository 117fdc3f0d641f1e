#include "cpu/vector_ops.h"

#include "core/error.h"
#include "cpu/isa/tables.h"

namespace inkstone {

bool supports(Isa isa) {
  if (isa == Isa::scalar) return true;
#ifdef INKSTONE_X86
  __builtin_cpu_init();
  // Every processor with AVX2 has F16C, which compilers know by different names.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "";
}

const VectorOps& vector_ops(Isa isa) {
  check(supports(isa), "instruction set {}: this processor does not have it", name_of(isa));
#ifdef INKSTONE_X86
  if (isa == Isa::avx512) return avx512::kVectorOps;
  if (isa == Isa::avx2) return avx2::kVectorOps;
#endif
  return scalar::kVectorOps;
}

const VectorOps& vector_ops() {
  for (const Isa isa : {Isa::avx512, Isa::avx2})
    if (supports(isa)) return vector_ops(isa);
  return vector_ops(Isa::scalar);
}

}  // namespace inkstone
