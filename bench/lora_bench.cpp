// A LoRA beside every layer of a block of the full-size transformer, and the same block without, taking turns.
#include "block_run.h"
#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"
#include "ops/random_blocks.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr size_t kKept = size_t{1} << 30;  // bytes: all of a block's rounded weights
constexpr int kInARow = 10;                // blocks that a GPU computes before the host waits
constexpr int64_t kRank = 64;

void for_each_layer(BlockRun& run, const auto& work) {
  BlockWeights& block = run.weights.blocks[0];
  for (StreamWeights* stream : {&block.txt, &block.img})
    for (Linear* layer : {&stream->qkv, &stream->out, &stream->up, &stream->down}) work(*layer);
}

/// A LoRA of this rank beside every layer of the block.
BlockRun with_lora(BlockRun run, RandomWeights& random, int64_t rank) {
  for_each_layer(run, [&](Linear& layer) {
    layer.tolerance = std::make_shared<Tolerance>();  // of its own: the other's would lack the branches
    for (Slab& slab : layer.slabs) {
      const auto half = [&](int64_t out, int64_t in) {
        return random.linear({{"half", out}}, in, Bias::absent).slabs.front().weight;
      };
      slab.branches.push_back({half(rank, slab.weight.in), half(slab.weight.out, rank)});
    }
  });
  return run;
}

void compare(benchmark::State& state, const auto& without, const auto& with, int times) {
  without();
  with();
  std::vector<double> plain, changed;
  for (auto _ : state) {
    plain.push_back(seconds_of(without) / times);
    changed.push_back(seconds_of(with) / times);
    state.SetIterationTime(changed.back());
  }
  state.counters["median_s"] = median(changed);
  state.counters["plain_s"] = median(plain);
  state.counters["ratio"] = median(changed) / median(plain);
}

/// Argument: pixels of a side.
void lora(benchmark::State& state, RandomFormat format, bool int8) {
  const auto device = make_cpu_device({.int8 = int8, .keep_rounded = kKept});
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors()), of_lora(*device, RandomFormat::bf16, usable_processors());
  const BlockRun plain(ops, random, state.range(0)), changed = with_lora(plain, of_lora, kRank);
  compare(
      state, [&] { benchmark::DoNotOptimize(plain.run()); }, [&] { benchmark::DoNotOptimize(changed.run()); }, 1);
}

/// Random blocks of a GGUF format in place of the weights.
void pack(BlockRun& run, Device& device, WeightFormat format) {
  const BlockLayout& layout = layout_of(format);
  for_each_layer(run, [&](Linear& layer) {
    for (Slab& slab : layer.slabs) {
      const int64_t out = slab.weight.out, in = slab.weight.in;
      const auto row = random_blocks(format, in / layout.numbers, 1, kSmallHalves);
      const Tensor host = host_tensor({out, static_cast<int64_t>(row.size())}, DType::u8);
      for (int64_t i = 0; i < out; ++i) std::ranges::copy(row, host.rows(i, i + 1).data<uint8_t>());
      slab.weight = {.format = format, .out = out, .in = in, .data = device.upload(host)};
      device.wait();
    }
  });
}

enum class Pairs : uint8_t { beside, in_weights };

/// The same on a GPU: where nothing is taken into the weights, as where there is no room for that, and where all is.
void lora_on_gpu(benchmark::State& state, RandomFormat format, std::optional<WeightFormat> packed, Pairs pairs) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) return give_up(state, reason);
  const auto device =
      make_cuda_device({.arithmetic = format == RandomFormat::f32 ? CudaArithmetic::f32 : CudaArithmetic::bf16});
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors()), of_lora(*device, RandomFormat::bf16, usable_processors());
  BlockRun plain(ops, random, state.range(0));
  if (packed) pack(plain, *device, *packed);
  BlockRun changed = with_lora(plain, of_lora, kRank);
  device->widen(pairs == Pairs::in_weights);
  if (pairs == Pairs::in_weights) for_each_layer(changed, [&](Linear& layer) { device->round_weights(layer); });
  const auto run = [&](const BlockRun& block) {
    for (int i = 0; i < kInARow; ++i) block.run();
    device->wait();
  };
  compare(
      state, [&] { run(plain); }, [&] { run(changed); }, kInARow);
}

#define INKSTONE_LORA(name, format, int8)                   \
  BENCHMARK_CAPTURE(lora, name, RandomFormat::format, int8) \
      ->UseManualTime()                                     \
      ->Unit(benchmark::kMillisecond)                       \
      ->Iterations(7)

INKSTONE_LORA(bf16, bf16, false)->Arg(512)->Arg(1024);
INKSTONE_LORA(int4, int4, false)->Arg(512);
INKSTONE_LORA(int4_by_int8, int4, true)->Arg(512);

#define INKSTONE_GPU_PAIRS(name, format, packed, pairs)                            \
  BENCHMARK_CAPTURE(lora_on_gpu, name, RandomFormat::format, packed, Pairs::pairs) \
      ->UseManualTime()                                                            \
      ->Unit(benchmark::kMillisecond)                                              \
      ->Iterations(15)                                                             \
      ->Arg(512)                                                                   \
      ->Arg(1024)                                                                  \
      ->Arg(1328)
#define INKSTONE_GPU_LORA(name, format, packed)     \
  INKSTONE_GPU_PAIRS(name, format, packed, beside); \
  INKSTONE_GPU_PAIRS(name##_in, format, packed, in_weights)

INKSTONE_GPU_LORA(bf16, bf16, std::nullopt);
INKSTONE_GPU_LORA(int4, int4, std::nullopt);
INKSTONE_GPU_LORA(int8, int8, std::nullopt);
INKSTONE_GPU_LORA(fp8, fp8, std::nullopt);
INKSTONE_GPU_LORA(q8_0, bf16, WeightFormat::q8_0);
INKSTONE_GPU_LORA(q4_k, bf16, WeightFormat::q4_k);
INKSTONE_GPU_LORA(f32, f32, std::nullopt);

}  // namespace
}  // namespace inkstone
