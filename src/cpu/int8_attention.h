// Attention of tolerant layers in 8 bits.
#pragma once
#include "core/thread_pool.h"
#include "cpu/int8_attention_ops.h"
#include "cpu/int8_panel.h"
#include "cpu/worker_scratch.h"
#include "ops/kernels.h"

namespace inkstone {

/// What a call computes with.
struct Int8Workers {
  ThreadPool& pool;
  Int8Functions functions;  ///< int8_attention_ops() has something for them
  WorkerScratch& scratch;
};

/// Bytes of rounded keys and values, which are kept as long as a call takes.
size_t int8_attention_bytes(const Int8Ops& int8, const Qkv& in);

/// Full attention, of heads of at most kInt8MostGroup numbers.
void run_int8_attention(std::span<Tensor> out, const Qkv& in, const Int8Workers& workers);

}  // namespace inkstone
