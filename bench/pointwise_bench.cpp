// Norms, joins and pointwise ops beside the memory bandwidth of the same run. Where the numbers fit the last cache, a
// share above one is right.
//
//     INKSTONE_DEVICE=cuda build/bench/pointwise_bench
#include "on_device.h"

namespace inkstone {
namespace {

using Tensors = std::vector<Tensor>;

double bytes_of(const Tensors& tensors) {
  double bytes = 0;
  for (const Tensor& t : tensors) bytes += static_cast<double>(t.bytes());
  return bytes;
}

/// Times `run`, which reads tensors and gives others.
template <class Run>
void measure(benchmark::State& state, BenchDevice& on, const Tensors& read, const Run& run) {
  const double bytes = bytes_of(read) + bytes_of(run());  // the first run maps the pool's pages
  const double before = on.measure_copy();
  on.time(state, [&] { return run().front(); });
  const double bandwidth = std::max(before, on.measure_copy());
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_copy"] = benchmark::Counter(bytes / bandwidth, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["copy"] = bandwidth;
}

void layer_norm_modulate(benchmark::State& state) {
  BenchDevice on;
  const int64_t n = state.range(0), d = state.range(1);
  const Sequences sequences = Sequences::equal(1, n);
  const Tensor x = on.upload(random_normal({n, d}, 1)), table = on.upload(random_normal({6, d}, 2));
  const Tensor row = on.upload(host_tensor(std::vector<int32_t>{0}));
  const std::vector<ModulatePart> parts = {{x, {table, row, 0, &sequences}, {table, row, 1, &sequences}}};
  measure(state, on, {x}, [&] { return on.ops().layer_norm_modulate(parts, 1e-6f); });
}

void rms_norm_silu(benchmark::State& state) {
  BenchDevice on;
  const int64_t n = state.range(0), d = state.range(1);
  const Tensor x = on.upload(random_normal({n, d}, 1)), weight = on.upload(random_normal({d}, 2));
  measure(state, on, {x},
          [&] { return Tensors{on.ops().rms_norm(x, weight, {.eps = 1e-6f, .activation = Activation::silu})}; });
}

void join_qkv(benchmark::State& state) {
  BenchDevice on;
  const int64_t n = state.range(0), heads = state.range(1), c = state.range(2);
  const Sequences sequences = Sequences::equal(1, n);
  const QkvPart part = {.qkv = on.operand(random_normal({n, 3 * heads * c}, 1)),
                        .sequences = &sequences,
                        .q_norm = on.upload(random_normal({c}, 2)),
                        .k_norm = on.upload(random_normal({c}, 3)),
                        .rope = {on.upload(random_normal({n, c / 2, 2}, 4))}};
  measure(state, on, {part.qkv}, [&] {
    const Qkv joined = on.ops().join_qkv({part}, {heads, heads, c}, 1e-6f);
    return Tensors{joined.q, joined.k, joined.v};
  });
}

void swiglu(benchmark::State& state) {
  BenchDevice on;
  const Tensor x = on.operand(random_normal({state.range(0), 2 * state.range(1)}, 1));
  measure(state, on, {x}, [&] { return Tensors{on.ops().swiglu(x)}; });
}

void guided_step(benchmark::State& state) {
  BenchDevice on;
  const Shape shape = {state.range(0), state.range(1)};
  const Tensor x = on.upload(random_normal(shape, 3)), factor = on.upload(host_tensor(std::vector<float>{-0.02f}));
  const Guidance guidance = {on.upload(random_normal(shape, 1)), on.upload(random_normal(shape, 2)),
                             on.upload(host_tensor(std::vector<float>{4}))};
  measure(state, on, {x, guidance.cond, guidance.uncond},
          [&] { return Tensors{on.ops().guided_step(x, guidance, factor)}; });
}

void add_scaled(benchmark::State& state) {
  BenchDevice on;
  const Shape shape = {state.range(0), state.range(1)};
  const Tensor x = on.upload(random_normal(shape, 1)), y = on.upload(random_normal(shape, 2));
  const Tensor factor = on.upload(host_tensor(std::vector<float>{-0.02f}));
  measure(state, on, {x, y}, [&] { return Tensors{on.ops().add_scaled(x, y, factor)}; });
}

void to_rgb8(benchmark::State& state) {
  BenchDevice on;
  const Tensor x = on.upload(random_normal({1, state.range(0), state.range(0), 3}, 1));
  measure(state, on, {x}, [&] { return Tensors{on.ops().to_rgb8(x)}; });
}

// The first sizes are the real model's at 1024 x 1024, the second the tiny model's, where the call itself counts; the
// third, of what a block does, is four pictures of 1024 x 1024 in a batch, which no GPU's cache holds.
BENCHMARK(layer_norm_modulate)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({4160, 3072})
    ->Args({592, 192})
    ->Args({16640, 3072});
BENCHMARK(rms_norm_silu)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({1 << 20, 96})->Args({65536, 24});
BENCHMARK(join_qkv)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({4160, 24, 128})
    ->Args({592, 3, 64})
    ->Args({16640, 24, 128});
BENCHMARK(swiglu)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({1024, 18944})->Args({96, 512});
BENCHMARK(guided_step)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4096, 64})->Args({256, 64});
BENCHMARK(add_scaled)->UseRealTime()->Unit(benchmark::kMicrosecond)->Args({4096, 64})->Args({256, 64});
BENCHMARK(to_rgb8)->UseRealTime()->Unit(benchmark::kMicrosecond)->Arg(1024)->Arg(256);

}  // namespace
}  // namespace inkstone
