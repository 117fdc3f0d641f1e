// Rounding weights to the order of the 8-bit kernels, on one core: the pass that finds the factors, packing into memory
// that is already mapped, and both into fresh memory, as the first pass of a model does it.
#include "core/rounding.h"
#include "cpu/int8_layer.h"
#include "ops/mixed_weights.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kOut = 4608, kIn = 3072;
constexpr size_t kKept = size_t{1} << 30;  // bytes: all rounded weights

Linear layer_of(WeightFormat format) {
  Linear layer;
  layer.slabs.emplace_back().weight = format == WeightFormat::f32 ? dense_weight(repeated_normal({kOut, kIn}, 1, 0.02f))
                                                                  : random_weight(format, kOut, kIn, 1);
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

/// 4 bits in the order of the kernels, which are unpacked.
Linear mixed_layer() {
  Linear layer;
  layer.slabs.emplace_back().weight = random_mixed(WeightFormat::affine4, kOut, kIn, 1);
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

/// Numbers a second, and what that reads.
void report_rate(benchmark::State& state, const Linear& layer) {
  const auto numbers = static_cast<double>(kOut * kIn);
  const auto bytes = static_cast<double>(layer.slabs.front().weight.data.bytes());
  state.counters["numbers/s"] = benchmark::Counter(numbers, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["read_bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

void factors(benchmark::State& state, WeightFormat format) {
  ThreadPool pool(1);
  const Linear layer = layer_of(format);
  for (auto _ : state) benchmark::DoNotOptimize(int8_factors(layer, pool, vector_ops()));
  report_rate(state, layer);
}

void pack_layer(benchmark::State& state, const Linear& layer) {
  const Int8Functions functions = {vector_ops(), int8_ops(vector_ops().isa)};
  ThreadPool pool(1);
  const Int8Factors even = int8_factors(layer, pool, functions.vector);
  const Int8Packer packer(functions, layer.slabs.front().weight, &even);
  std::vector<float> room(static_cast<size_t>(packer.room()));
  const int64_t depth = panel_depth(functions.int8, kIn);
  const Tensor memory = host_tensor({Int8Panel::bytes(functions.int8, kOut, depth)}, DType::u8);
  for (auto _ : state)
    for (int64_t begin = 0; begin < kIn; begin += depth)
      packer.pack({functions.int8, {0, kOut, begin, std::min(begin + depth, kIn)}, memory.data<std::byte>()},
                  room.data());
  report_rate(state, layer);
}

void pack(benchmark::State& state, WeightFormat format) { pack_layer(state, layer_of(format)); }
void unpack(benchmark::State& state) { pack_layer(state, mixed_layer()); }

void first_pass(benchmark::State& state, WeightFormat format) {
  ThreadPool pool(1);
  const Linear layer = layer_of(format);
  for (auto _ : state) {
    Int8Layers layers(pool, {vector_ops(), int8_ops(vector_ops().isa)}, kKept);
    layer.tolerance->form.reset();
    benchmark::DoNotOptimize(layers.of(layer));
    layer.tolerance->form.reset();
  }
  report_rate(state, layer);
}

#define INKSTONE_PACKING(name)                             \
  BENCHMARK_CAPTURE(name, f32, WeightFormat::f32);         \
  BENCHMARK_CAPTURE(name, bf16, WeightFormat::bf16);       \
  BENCHMARK_CAPTURE(name, affine8, WeightFormat::affine8); \
  BENCHMARK_CAPTURE(name, affine4, WeightFormat::affine4)

INKSTONE_PACKING(factors);
INKSTONE_PACKING(pack);
BENCHMARK(unpack);
INKSTONE_PACKING(first_pass);

}  // namespace
}  // namespace inkstone
