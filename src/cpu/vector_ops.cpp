#include "cpu/vector_ops.h"

#include "core/error.h"
#include "cpu/isa/tables.h"

#ifdef INKSTONE_X86
#include <cpuid.h>
#endif

namespace inkstone {
namespace {

#ifdef INKSTONE_X86
/// clang 14 does not know the name of it. Its vectors are avx2's, for which the system keeps the registers.
bool has_avx_vnni() {
  constexpr unsigned kLeaf = 7, kSubleaf = 1, kBit = 1u << 4;  // of EAX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(kLeaf, kSubleaf, &eax, &ebx, &ecx, &edx) != 0 && (eax & kBit) != 0;
}

VectorOps avx_vnni_ops() {
  VectorOps ops = avx2::kVectorOps;
  ops.isa = Isa::avx_vnni;
  return ops;
}
#endif

}  // namespace

bool supports(Isa isa) {
  if (isa == Isa::scalar) return true;
#ifdef INKSTONE_X86
  __builtin_cpu_init();
  // Every processor with AVX2 has F16C, which compilers know by different names.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx_vnni) return avx2 && has_avx_vnni();
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
    case Isa::avx_vnni:
      return "avx_vnni";
    case Isa::avx512:
      return "avx512";
  }
  return "";
}

const VectorOps& vector_ops(Isa isa) {
  check(supports(isa), "instruction set {}: this processor does not have it", name_of(isa));
#ifdef INKSTONE_X86
  if (isa == Isa::avx512) return avx512::kVectorOps;
  if (isa == Isa::avx_vnni) {
    static const VectorOps ops = avx_vnni_ops();
    return ops;
  }
  if (isa == Isa::avx2) return avx2::kVectorOps;
#endif
  return scalar::kVectorOps;
}

const VectorOps& vector_ops() {
  for (const Isa isa : {Isa::avx512, Isa::avx_vnni, Isa::avx2})
    if (supports(isa)) return vector_ops(isa);
  return vector_ops(Isa::scalar);
}

}  // namespace inkstone
