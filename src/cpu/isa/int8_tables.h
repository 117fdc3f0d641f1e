// The tables of 8-bit products that the instruction sets' files define; int8_ops.cpp chooses among them.
#pragma once
#include "cpu/int8_attention_ops.h"

namespace inkstone {

namespace scalar {
extern const Int8Ops kInt8Ops;
}
namespace avx2 {
extern const Int8Ops kInt8Ops;
}
namespace avx_vnni {
extern const Int8Ops kInt8Ops;
extern const Int8AttentionOps kInt8AttentionOps;
}  // namespace avx_vnni
namespace avx512 {
extern const Int8Ops kInt8Ops;
extern const Int8AttentionOps kInt8AttentionOps;
}  // namespace avx512

}  // namespace inkstone
