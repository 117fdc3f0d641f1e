// What formats of weights and arithmetics in 8 and 16 bits cost one full-size block of the transformer at 512x512:
// relative error of what the block adds to its streams, beside normal weights in f32.
//
// `outliers`: the same block after one channel in kSpacing was made kFactor times larger on its way into linear layers,
// behind the norms and between values and output, and the layers' weights for it smaller, which changes nothing else.
//
// On a GPU, if there is one: build/bench/rounding_bench --benchmark_filter=on_gpu
#include "block_run.h"
#include "cpu/cpu_device.h"
#include "cpu/int8_factors.h"
#include "cuda/cuda_device.h"
#include "ops/rounded_weights.h"
#include "relative_error.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kSize = 512;
constexpr int64_t kGroup = 64;
constexpr int64_t kSpacing = 48, kFirst = 7;
constexpr float kFactor = 64;

enum class Held : uint8_t { f32, bf16, rows8, rows4, cpu8, cpu4, cpu8_uneven };

/// A block with weights of its own, in f32.
struct Block {
  explicit Block(float outliers)
      : device(make_cpu_device()),
        ops(*device),
        random(*device, RandomFormat::f32, usable_processors()),
        run(ops, random, kSize) {
    uint64_t seed = 0;
    for_each_block_layer(weights(), [&](Linear& layer) {
      const float size = 1 / std::sqrt(static_cast<float>(layer.in()));
      for (Slab& slab : layer.slabs)
        slab.weight = dense_weight(repeated_normal({slab.weight.out, slab.weight.in}, ++seed, size));
    });
    plant(outliers);
  }

  BlockWeights& weights() { return run.weights.blocks[0]; }

  /// What the block adds to both streams.
  std::vector<float> change(Ops& by, const BlockWeights& of) {
    TransformerWeights all = run.weights;
    all.blocks[0] = of;
    return change_of(
        Transformer(run.config, all).block(by, 0, {run.condition.txt, run.img}, run.condition, run.tables, run.rows));
  }

  /// The same where all lies on a GPU, the layers bound as those of a model are.
  std::vector<float> change_on(Device& gpu) {
    Ops of_gpu(gpu);
    const auto place = [&](Tensor& tensor) {
      if (tensor) tensor = gpu.upload(tensor);
    };
    TransformerWeights all = run.weights;
    for_each_block_layer(all.blocks[0], [&](Linear& layer) {
      layer.tolerance = std::make_shared<Tolerance>();
      gpu.upload_weights(layer);
      gpu.round_weights(layer);
    });
    gpu.finish_uploads();
    for_each_other_tensor(all, place);
    ModulationTables tables = run.tables;
    StepRows rows = run.rows;
    Conditioning condition = run.condition;
    for (Tensor* tensor : {&tables.blocks[0].txt, &tables.blocks[0].img, &rows.block, &condition.txt,
                           &condition.txt_rope.cos_sin, &condition.img_rope.cos_sin})
      place(*tensor);
    auto y =
        Transformer(run.config, all).block(of_gpu, 0, {condition.txt, gpu.upload(run.img)}, condition, tables, rows);
    for (Tensor* tensor : {&y.txt, &y.img}) *tensor = to_f32(gpu.download(*tensor));
    return change_of(y);
  }

 private:
  void plant(float factor) {
    for (StreamWeights* w : {&weights().txt, &weights().img}) {
      Tensor& table = w == &weights().txt ? run.tables.blocks[0].txt : run.tables.blocks[0].img;
      for (int64_t c = kFirst; c < table.dim(1); c += kSpacing) {
        for (const int64_t shift : {0, 3}) {
          float& scale = table.rows(shift + 1, shift + 2).data<float>()[c];
          table.rows(shift, shift + 1).data<float>()[c] *= factor;
          scale = (1 + scale) * factor - 1;
        }
        for (const Linear* layer : {&w->qkv, &w->up, &w->out}) scale_input(*layer, c, 1 / factor);
        Slab& values = w->qkv.slabs[2];
        for (float& x : values.weight.data.rows(c, c + 1).span<float>()) x *= factor;
        values.bias.data<float>()[c] *= factor;
      }
    }
  }
  std::vector<float> change_of(const Transformer::Streams& y) const {
    std::vector<float> numbers;
    for (const auto& [after, before] : {std::pair{y.txt, run.condition.txt}, std::pair{y.img, run.img}})
      for (int64_t i = 0; i < after.count(); ++i)
        numbers.push_back(after.data<const float>()[i] - before.data<const float>()[i]);
    return numbers;
  }
  static void scale_input(const Linear& layer, int64_t input, float factor) {
    for (const Slab& slab : layer.slabs)
      for (int64_t o = 0; o < slab.weight.out; ++o) slab.weight.data.rows(o, o + 1).data<float>()[input] *= factor;
  }

  std::unique_ptr<Device> device;
  Ops ops;
  RandomWeights random;

 public:
  BlockRun run;
};

Weight converted(const Weight& weight, Held held, const Tensor& factors) {
  switch (held) {
    case Held::f32:
      return weight;
    case Held::bf16:
      return dense_weight(as_bf16(weight.data));
    case Held::rows8:
      return in_rows(WeightFormat::affine8, weight.data, kGroup);
    case Held::rows4:
      return in_rows(WeightFormat::affine4, weight.data, kGroup);
    case Held::cpu4:
      return in_mixed_order(WeightFormat::affine4, weight.data, factors);
    default:
      return in_mixed_order(WeightFormat::affine8, weight.data, factors);
  }
}

/// The layers, in another format and with nothing made of them.
BlockWeights converted(const BlockWeights& from, Held held) {
  BlockWeights to = from;
  ThreadPool pool(usable_processors());
  std::vector<std::pair<Weight*, Tensor>> matrices;
  for_each_block_layer(to, [&](Linear& layer) {
    layer.tolerance = std::make_shared<Tolerance>();
    Tensor factors = host_tensor(int8_factors(layer, pool, vector_ops()).of_input);
    if (held == Held::cpu8_uneven) std::ranges::fill(factors.span<float>(), 1.0f);
    for (Slab& slab : layer.slabs) matrices.emplace_back(&slab.weight, factors);
  });
  pool.run(static_cast<int64_t>(matrices.size()), [&](int64_t i, int) {
    auto& [weight, factors] = matrices[static_cast<size_t>(i)];
    *weight = converted(*weight, held, factors);
  });
  return to;
}

void rounding(benchmark::State& state, Held held, bool int8, Isa isa, std::optional<HalfKind> half = std::nullopt) {
  if (!supports(isa) || (half && half_ops(isa, *half) == nullptr))
    return state.SkipWithError("this processor lacks it");
  for (auto _ : state)
    for (const float outliers : {1.0f, kFactor}) {
      Block block(outliers);
      CpuOptions options = {.isa = isa, .int8 = int8};
      if (half) options.half = chosen_half(isa, *half);
      const auto exact_device = make_cpu_device(), device = make_cpu_device(options);
      Ops exact_ops(*exact_device), ops(*device);
      const std::vector<float> exact = block.change(exact_ops, block.weights());
      state.counters[outliers == 1 ? "error" : "outliers"] =
          relative_error(block.change(ops, converted(block.weights(), held)), exact);
    }
}

void rounding_on_gpu(benchmark::State& state, CudaArithmetic arithmetic) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) return state.SkipWithError(reason.c_str());
  const auto exact_device = make_cpu_device(), gpu = make_cuda_device({.arithmetic = arithmetic});
  Ops exact(*exact_device);
  for (auto _ : state)
    for (const float outliers : {1.0f, kFactor}) {
      Block block(outliers);
      state.counters[outliers == 1 ? "error" : "outliers"] =
          relative_error(block.change_on(*gpu), block.change(exact, block.weights()));
    }
}

#define INKSTONE_ROUNDING(name, held, int8, isa, ...)                                      \
  BENCHMARK_CAPTURE(rounding, name, Held::held, int8, Isa::isa __VA_OPT__(, ) __VA_ARGS__) \
      ->Iterations(1)                                                                      \
      ->Unit(benchmark::kSecond)

INKSTONE_ROUNDING(bf16, bf16, false, avx512);
INKSTONE_ROUNDING(int8, rows8, false, avx512);
INKSTONE_ROUNDING(int4, rows4, false, avx512);
INKSTONE_ROUNDING(int8_cpu, cpu8, false, avx512);
INKSTONE_ROUNDING(int4_cpu, cpu4, false, avx512);
INKSTONE_ROUNDING(f32_by_int8, f32, true, avx512);
INKSTONE_ROUNDING(f32_by_int8_avx_vnni, f32, true, avx_vnni);
INKSTONE_ROUNDING(f32_by_int8_avx2, f32, true, avx2);
INKSTONE_ROUNDING(bf16_by_int8, bf16, true, avx512);
INKSTONE_ROUNDING(int8_by_int8, rows8, true, avx512);
INKSTONE_ROUNDING(int4_by_int8, rows4, true, avx512);
INKSTONE_ROUNDING(int8_cpu_by_int8, cpu8, true, avx512);
INKSTONE_ROUNDING(int4_cpu_by_int8, cpu4, true, avx512);
INKSTONE_ROUNDING(int4_cpu_by_int8_avx_vnni, cpu4, true, avx_vnni);
INKSTONE_ROUNDING(int8_by_int8_not_evened_out, cpu8_uneven, true, avx512);
INKSTONE_ROUNDING(f32_by_fp16, f32, false, avx512, HalfKind::fp16);
INKSTONE_ROUNDING(f32_by_bf16, f32, false, avx512, HalfKind::bf16);
INKSTONE_ROUNDING(bf16_by_fp16, bf16, false, avx512, HalfKind::fp16);
INKSTONE_ROUNDING(bf16_by_bf16, bf16, false, avx512, HalfKind::bf16);
INKSTONE_ROUNDING(int8_by_fp16, rows8, false, avx512, HalfKind::fp16);
INKSTONE_ROUNDING(int4_by_fp16, rows4, false, avx512, HalfKind::fp16);

#define INKSTONE_ROUNDING_ON_GPU(arithmetic) \
  BENCHMARK_CAPTURE(rounding_on_gpu, arithmetic, CudaArithmetic::arithmetic)->Iterations(1)->Unit(benchmark::kSecond)

INKSTONE_ROUNDING_ON_GPU(f32);
INKSTONE_ROUNDING_ON_GPU(bf16);
INKSTONE_ROUNDING_ON_GPU(fp8);
INKSTONE_ROUNDING_ON_GPU(int8);

}  // namespace
}  // namespace inkstone
