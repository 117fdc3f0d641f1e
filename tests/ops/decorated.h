// A little work for the tests of the decorators.
#pragma once
#include "ops/ops.h"
#include "ops/random_tensors.h"

namespace inkstone {

/// Two linear layers, a norm, and causal attention of two sequences: 5 calls of 4 ops.
inline Tensor run_some_ops(Ops& ops) {
  const Tensor x = ops.upload(random_normal({5, 32}, 1));
  const Linear up = random_layer(WeightFormat::f32, 3 * 16, 32, 2);
  const Linear down = random_layer(WeightFormat::bf16, 8, 16, 3);
  const Sequences sequences(std::vector<int64_t>{2, 3});

  const Tensor normed = ops.rms_norm(x, ops.upload(random_normal({32}, 4)), {.eps = 1e-6f});
  const Tensor qkv = ops.linear(normed, up);
  const Qkv joined = ops.join_qkv({{.qkv = qkv, .sequences = &sequences}}, {.heads = 2, .kv_heads = 2, .width = 8});
  const Tensor attended = ops.attention(joined, {.causal = true}).front();
  return ops.linear(attended, down);
}

}  // namespace inkstone
