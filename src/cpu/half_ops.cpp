#include "cpu/half_ops.h"

#include "cpu/isa/half_tables.h"

#ifdef INKSTONE_X86
#include <cpuid.h>
#endif

namespace inkstone {

const char* name_of(HalfKind kind) { return kind == HalfKind::fp16 ? "fp16" : "bf16"; }

const HalfOps* half_ops([[maybe_unused]] Isa isa, [[maybe_unused]] HalfKind kind) {
#ifdef INKSTONE_X86
  // clang 14 does not know the names of both.
  constexpr unsigned kLeaf = 7, kFp16Bit = 1u << 23, kBf16Bit = 1u << 5;  // of EDX; of EAX of the next subleaf
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (isa != Isa::avx512 || !supports(isa)) return nullptr;
  const bool fp16 = kind == HalfKind::fp16;
  if (__get_cpuid_count(kLeaf, fp16 ? 0 : 1, &eax, &ebx, &ecx, &edx) == 0) return nullptr;
  if (fp16 && (edx & kFp16Bit) != 0) return &avx512::kFp16Ops;
  if (!fp16 && (eax & kBf16Bit) != 0) return &avx512::kBf16Ops;
#endif
  return nullptr;
}

}  // namespace inkstone
