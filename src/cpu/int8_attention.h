// Attention of tolerant layers in 8 bits.
#pragma once
#include "core/thread_pool.h"
#include "cpu/int8_attention_ops.h"
#include "cpu/int8_panel.h"
#include "cpu/int8_product.h"
#include "cpu/worker_scratch.h"
#include "ops/kernels.h"

namespace inkstone {

/// What a call computes with.
struct Int8Workers {
  ThreadPool& pool;
  Int8Functions functions;  ///< int8_attention_ops() has something for them
  WorkerScratch& scratch;
};

/// Bytes of rounded keys and values, in memory that the workers share.
size_t int8_attention_bytes(const Int8Ops& int8, const Qkv& in);

/// Where a stream's results go as codes, and what they are multiplied with before. Without factors they stay f32.
struct RoundedStream {
  Int8Rows rows;
  const float* factors = nullptr;
};

/// How many heads make a group of codes, if a worker may compute so many in a task: 0 where groups cut heads, or where
/// there would be too few tasks for the workers.
int64_t heads_together(const Qkv& in, const Int8Ops& int8, int threads);

/// Full attention, of heads of at most kInt8MostGroup numbers. With `rounded`, which needs heads_together(), results of
/// its streams go there instead of to `out`.
void run_int8_attention(std::span<Tensor> out, std::span<const RoundedStream> rounded, const Qkv& in,
                        const Int8Workers& workers);

}  // namespace inkstone
