// Norms, joins and pointwise ops beside the memory bandwidth of the same run. Where the numbers fit the last cache, a
// share above one is right.
#include <benchmark/benchmark.h>

#include "bandwidth.h"
#include "cpu/cpu_device.h"
#include "ops/ops.h"
#include "ops/random_tensors.h"

namespace inkstone {
namespace {

/// Times `run`, which reads and writes `numbers` f32, on the cpu device.
template <class Run>
void measure(benchmark::State& state, int64_t numbers, const Run& run) {
  const auto device = make_cpu_device();
  Ops ops(*device);
  run(ops);  // maps the pool's pages
  const double before = measure_copy_bandwidth();
  for (auto _ : state) benchmark::DoNotOptimize(run(ops));
  const double bandwidth = std::max(before, measure_copy_bandwidth());
  const double bytes = 4.0 * static_cast<double>(numbers);
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_copy"] = benchmark::Counter(bytes / bandwidth, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["copy"] = bandwidth;
}

void layer_norm_modulate(benchmark::State& state) {
  const int64_t n = state.range(0), d = state.range(1);
  const Sequences sequences = Sequences::equal(1, n);
  const Tensor x = random_normal({n, d}, 1), table = random_normal({6, d}, 2);
  const Tensor row = host_tensor(std::vector<int32_t>{0});
  const std::vector<ModulatePart> parts = {{x, {table, row, 0, &sequences}, {table, row, 1, &sequences}}};
  measure(state, 2 * n * d, [&](Ops& ops) { return ops.layer_norm_modulate(parts, 1e-6f); });
}

void rms_norm_silu(benchmark::State& state) {
  const int64_t n = state.range(0), d = state.range(1);
  const Tensor x = random_normal({n, d}, 1), weight = random_normal({d}, 2);
  measure(state, 2 * n * d,
          [&](Ops& ops) { return ops.rms_norm(x, weight, {.eps = 1e-6f, .activation = Activation::silu}); });
}

void join_qkv(benchmark::State& state) {
  const int64_t n = state.range(0), heads = state.range(1), c = state.range(2);
  const Sequences sequences = Sequences::equal(1, n);
  const QkvPart part = {.qkv = random_normal({n, 3 * heads * c}, 1),
                        .sequences = &sequences,
                        .q_norm = random_normal({c}, 2),
                        .k_norm = random_normal({c}, 3),
                        .rope = {random_normal({n, c / 2, 2}, 4)}};
  measure(state, 6 * n * heads * c, [&](Ops& ops) { return ops.join_qkv({part}, {heads, heads, c}, 1e-6f); });
}

void swiglu(benchmark::State& state) {
  const Tensor x = random_normal({state.range(0), 2 * state.range(1)}, 1);
  measure(state, 3 * state.range(0) * state.range(1), [&](Ops& ops) { return ops.swiglu(x); });
}

void guide(benchmark::State& state) {
  const Shape shape = {state.range(0), state.range(1)};
  const Tensor cond = random_normal(shape, 1), uncond = random_normal(shape, 2);
  const Tensor scale = host_tensor(std::vector<float>{4});
  measure(state, 3 * shape.count(), [&](Ops& ops) { return ops.guide(cond, uncond, scale); });
}

void add_scaled(benchmark::State& state) {
  const Shape shape = {state.range(0), state.range(1)};
  const Tensor x = random_normal(shape, 1), y = random_normal(shape, 2);
  const Tensor factor = host_tensor(std::vector<float>{-0.02f});
  measure(state, 3 * shape.count(), [&](Ops& ops) { return ops.add_scaled(x, y, factor); });
}

void to_rgb8(benchmark::State& state) {
  const Tensor x = random_normal({1, state.range(0), state.range(0), 3}, 1);
  measure(state, x.count() + x.count() / 4, [&](Ops& ops) { return ops.to_rgb8(x); });
}

// The first sizes are the real model's at 1024 x 1024, the second the tiny model's, where the call itself counts.
BENCHMARK(layer_norm_modulate)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4160, 3072})->Args({592, 192});
BENCHMARK(rms_norm_silu)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({1 << 20, 96})->Args({65536, 24});
BENCHMARK(join_qkv)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4160, 24, 128})->Args({592, 3, 64});
BENCHMARK(swiglu)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({1024, 18944})->Args({96, 512});
BENCHMARK(guide)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4096, 64})->Args({256, 64});
BENCHMARK(add_scaled)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4096, 64})->Args({256, 64});
BENCHMARK(to_rgb8)->UseRealTime()->Unit(benchmark::kMicrosecond)->Arg(1024)->Arg(256);

}  // namespace
}  // namespace inkstone
