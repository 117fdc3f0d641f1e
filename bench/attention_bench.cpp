// Attention beside the peak of the same run, and on the cpu beside what oneDNN needs for the two matrix products alone.
//
//     INKSTONE_DEVICE=cuda build/bench/attention_bench --benchmark_filter=-onednn
#include "on_device.h"
#include "onednn.h"

namespace inkstone {
namespace {

Qkv random_qkv(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t width) {
  return {.q = random_normal({tokens, heads, width}, 1),
          .k = random_normal({tokens, kv_heads, width}, 2),
          .v = random_normal({tokens, kv_heads, width}, 3),
          .sequences = {{Sequences::equal(1, tokens)}}};
}

void attention(benchmark::State& state, int64_t tokens, Heads heads, bool causal) {
  BenchDevice on;
  Qkv in = random_qkv(tokens, heads.heads, heads.kv_heads, heads.width);
  for (Tensor* t : {&in.q, &in.k, &in.v}) *t = on.operand(*t);
  const auto n = static_cast<double>(tokens);
  const double pairs = causal ? n * (n + 1) / 2 : n * n;
  on.time_product(state, 4 * pairs * static_cast<double>(heads.heads * heads.width),
                  [&] { return on.ops().attention(in, {.causal = causal}).front(); });
}

/// The same with scores and sums in 8 bits, beside the 8-bit peak and that of f32.
void int8_attention(benchmark::State& state, int64_t tokens, Heads heads) {
  if (on_gpu()) return state.SkipWithError("on the cpu only");
  const auto device = make_cpu_device({.int8 = true});
  Ops ops(*device);
  const Qkv in = random_qkv(tokens, heads.heads, heads.kv_heads, heads.width);
  const auto n = static_cast<double>(tokens);
  const double flop = 4 * n * n * static_cast<double>(heads.heads * heads.width);
  const int threads = usable_processors();
  const double peak = measure_int8_peak(threads), f32_peak = measure_f32_peak(threads);
  for (auto _ : state) benchmark::DoNotOptimize(ops.attention(in, {.tolerant = true}).front());
  report(state, flop, peak, measure_int8_peak);
  state.counters["of_f32_peak"] = benchmark::Counter(flop / std::max(f32_peak, measure_f32_peak(threads)),
                                                     benchmark::Counter::kIsIterationInvariantRate);
}

/// The products q kᵀ and p v of all heads by oneDNN on blocks that stay in the cache, v already transposed; no softmax.
void onednn_products(benchmark::State& state, int64_t tokens, int64_t heads, int64_t width) {
  constexpr int64_t kQueries = 384, kKeys = 384;
  ThreadPool pool(usable_processors());
  const Qkv in = random_qkv(tokens, heads, heads, width);
  const Tensor out = host_tensor({tokens, heads, width}, DType::f32);
  std::vector<Tensor> scores;
  for (int worker = 0; worker < pool.threads(); ++worker) scores.push_back(host_tensor({kQueries, kKeys}, DType::f32));

  const auto run_task = [&](int64_t query, int64_t head, const Tensor& block) {
    const OneDnnThreads one_thread(1);
    const int64_t row = heads * width, queries = std::min(kQueries, tokens - query);
    for (int64_t key = 0; key < tokens; key += kKeys) {
      const int64_t keys = std::min(kKeys, tokens - key);
      const int64_t q = query * row + head * width, k = key * row + head * width;
      gemm({.m = queries,
            .n = keys,
            .k = width,
            .x = in.q.data<const float>() + q,
            .x_stride = row,
            .w = in.k.data<const float>() + k,
            .w_stride = row,
            .y = block.data<float>(),
            .y_stride = kKeys,
            .accumulate = false});
      gemm({.m = queries,
            .n = width,
            .k = keys,
            .x = block.data<const float>(),
            .x_stride = kKeys,
            .w = in.v.data<const float>(),
            .w_stride = keys,
            .y = out.data<float>() + q,
            .y_stride = row,
            .accumulate = key > 0});
    }
  };
  const double peak = measure_f32_peak(usable_processors());
  const int64_t blocks = (tokens + kQueries - 1) / kQueries;
  for (auto _ : state)
    pool.run(blocks * heads, [&](int64_t index, int worker) {
      run_task(index % blocks * kQueries, index / blocks, scores[static_cast<size_t>(worker)]);
    });
  const auto n = static_cast<double>(tokens);
  report(state, 4 * n * n * static_cast<double>(heads * width), peak);
}

#define INKSTONE_ATTENTION(function, name, ...) \
  BENCHMARK_CAPTURE(function, name, __VA_ARGS__)->UseRealTime()->Unit(benchmark::kMillisecond)

INKSTONE_ATTENTION(attention, transformer_512, 1088, {24, 24, 128}, false);
INKSTONE_ATTENTION(int8_attention, transformer_512, 1088, {24, 24, 128});
INKSTONE_ATTENTION(onednn_products, transformer_512, 1088, 24, 128);
INKSTONE_ATTENTION(attention, transformer_1024, 4160, {24, 24, 128}, false);
INKSTONE_ATTENTION(int8_attention, transformer_1024, 4160, {24, 24, 128});
INKSTONE_ATTENTION(onednn_products, transformer_1024, 4160, 24, 128);
INKSTONE_ATTENTION(attention, text_encoder, 98, {28, 4, 128}, true);
INKSTONE_ATTENTION(attention, text_encoder_long, 1024, {28, 4, 128}, true);
INKSTONE_ATTENTION(attention, vae_512, 4096, {1, 1, 384}, false);
INKSTONE_ATTENTION(onednn_products, vae_512, 4096, 1, 384);
INKSTONE_ATTENTION(attention, heads_of_64, 4160, {24, 24, 64}, false);
INKSTONE_ATTENTION(attention, head_of_256, 4096, {1, 1, 256}, false);  // on a GPU by products and a softmax
INKSTONE_ATTENTION(attention, tiny, 296, {3, 3, 64}, false);

}  // namespace
}  // namespace inkstone
