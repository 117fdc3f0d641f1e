#include "cpu/int8_ops.h"

#include "core/error.h"
#include "cpu/isa/int8_tables.h"

namespace inkstone {
namespace {

bool has_vnni() {
#ifdef INKSTONE_X86
  return supports(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace

const Int8Ops& int8_ops(Isa isa) {
  check(supports(isa), "instruction set {}: this processor does not have it", name_of(isa));
#ifdef INKSTONE_X86
  if (isa == Isa::avx512 && has_vnni()) return avx512::kInt8Ops;
  if (isa == Isa::avx_vnni) return avx_vnni::kInt8Ops;
  if (isa != Isa::scalar) return avx2::kInt8Ops;
#endif
  return scalar::kInt8Ops;
}

const Int8AttentionOps* int8_attention_ops([[maybe_unused]] const Int8Ops& int8) {
#ifdef INKSTONE_X86
  if (&int8 == &avx512::kInt8Ops) return &avx512::kInt8AttentionOps;
  if (&int8 == &avx_vnni::kInt8Ops) return &avx_vnni::kInt8AttentionOps;
#endif
  return nullptr;
}

}  // namespace inkstone
