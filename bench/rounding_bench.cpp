// What formats of weights and arithmetics in 8 and 16 bits cost one full-size block of the transformer at 512x512:
// relative error of what the block adds to its streams, beside normal weights in f32.
//
// `outliers`: the same block after one channel in kSpacing was made kFactor times larger on its way into linear layers,
// behind the norms and between values and output, and the layers' weights for it smaller, which changes nothing else.
// kFactor is no power of two, as what evens channels out is.
//
// On a GPU, if there is one: build/bench/rounding_bench --benchmark_filter=on_gpu
#include <cstring>

#include "block_run.h"
#include "cpu/cpu_device.h"
#include "cpu/int8_factors.h"
#include "cuda/cuda_device.h"
#include "ops/quantize.h"
#include "ops/rounded_weights.h"
#include "relative_error.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kSize = 512;
constexpr int64_t kSpacing = 48, kFirst = 7;
constexpr float kFactor = 100;

/// How a layer's weights lie.
struct Held {
  WeightFormat format = WeightFormat::f32;
  int64_t group = 0;           ///< inputs of a scale in rows
  bool kernels_order = false;  ///< instead of rows
  bool evened_out = true;      ///< by factors, in the kernels' order
};

namespace held {
constexpr WeightFormat kBits4 = WeightFormat::affine4, kBits8 = WeightFormat::affine8;
constexpr Held f32 = {WeightFormat::f32}, f16 = {WeightFormat::f16}, bf16 = {WeightFormat::bf16};
constexpr Held fp8 = {WeightFormat::f8_e4m3}, q4_0 = {WeightFormat::q4_0}, q8_0 = {WeightFormat::q8_0};
constexpr Held rows8 = {kBits8, 64}, rows8_of_32 = {kBits8, 32}, rows8_of_128 = {kBits8, 128};
constexpr Held rows4 = {kBits4, 64}, rows4_of_32 = {kBits4, 32}, rows4_of_128 = {kBits4, 128};
constexpr Held cpu8 = {kBits8, 0, true}, cpu8_uneven = {kBits8, 0, true, false}, cpu4 = {kBits4, 0, true};
}  // namespace held

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

/// To nearest, ties away from zero.
f16_t to_f16(float x) {
  constexpr int kLeastExponent = -14, kDigits = 10;
  const int exponent = std::max(std::ilogb(x), kLeastExponent);
  const auto digits = static_cast<int>(std::lround(std::ldexp(std::abs(x), kDigits - exponent)));
  const int sign = std::signbit(x) ? 1 << 15 : 0;
  return {static_cast<uint16_t>(sign | (((exponent - kLeastExponent) << kDigits) + digits))};
}

Weight in_f16(const Tensor& numbers) {
  const Tensor made = host_tensor(numbers.shape(), DType::f16);
  std::ranges::transform(numbers.span<float>(), made.data<f16_t>(), to_f16);
  return dense_weight(made);
}

/// E4M3 with a scale for the matrix.
Weight in_fp8(const Tensor& numbers) {
  float greatest = 0;
  for (const float x : numbers.span<float>()) greatest = std::max(greatest, std::abs(x));
  const float scale = greatest / kGreatestE4m3;
  Weight made = dense_weight(host_tensor(numbers.shape(), DType::f8_e4m3));
  made.scales = host_tensor(std::vector<float>(static_cast<size_t>(made.out), scale)).reshape({made.out, 1});
  made.group = made.in;
  std::ranges::transform(numbers.span<float>(), made.data.data<uint8_t>(), [&](float x) { return to_e4m3(x / scale); });
  return made;
}

/// A block of GGUF's Q8_0 or Q4_0, as ggml rounds to them: a scale, and codes that the greatest number uses fully.
void write_block(WeightFormat format, std::span<const float> x, uint8_t* to) {
  const float greatest = *std::ranges::max_element(x, {}, [](float v) { return std::abs(v); });
  const bool small = format == WeightFormat::q4_0;
  const f16_t scale = to_f16(small ? greatest / -8 : std::abs(greatest) / 127);
  std::memcpy(to, &scale, sizeof scale);
  to += sizeof scale;
  const auto code = [&](size_t i) { return std::lround(x[i] / to_float(scale)); };
  const auto small_code = [&](size_t i) { return std::clamp(code(i) + 8, 0L, 15L); };
  const size_t half = x.size() / 2;
  for (size_t i = 0; i < (small ? half : x.size()); ++i)
    to[i] = static_cast<uint8_t>(small ? small_code(i) | small_code(i + half) << 4 : std::clamp(code(i), -127L, 127L));
}

Weight in_blocks(WeightFormat format, const Tensor& numbers) {
  const BlockLayout& layout = layout_of(format);
  const int64_t out = numbers.dim(0), in = numbers.dim(1);
  Weight made = {.format = format, .out = out, .in = in};
  made.data = host_tensor({out, in / layout.numbers * layout.bytes}, DType::u8);
  const auto x = numbers.span<const float>();
  for (int64_t block = 0; block < out * in / layout.numbers; ++block)
    write_block(format, x.subspan(static_cast<size_t>(block * layout.numbers), static_cast<size_t>(layout.numbers)),
                made.data.data<uint8_t>() + block * layout.bytes);
  return made;
}

Weight converted(const Weight& weight, const Held& held, const Tensor& factors) {
  if (held.kernels_order) return in_mixed_order(held.format, weight.data, factors);
  switch (held.format) {
    case WeightFormat::f32:
      return weight;
    case WeightFormat::f16:
      return in_f16(weight.data);
    case WeightFormat::bf16:
      return dense_weight(as_bf16(weight.data));
    case WeightFormat::f8_e4m3:
      return in_fp8(weight.data);
    case WeightFormat::q4_0:
    case WeightFormat::q8_0:
      return in_blocks(held.format, weight.data);
    default:
      return in_rows(held.format, weight.data, held.group);
  }
}

/// The layers, in another format and with nothing made of them.
BlockWeights converted(const BlockWeights& from, const Held& held) {
  BlockWeights to = from;
  ThreadPool pool(usable_processors());
  std::vector<std::pair<Weight*, Tensor>> matrices;
  for_each_block_layer(to, [&](Linear& layer) {
    layer.tolerance = std::make_shared<Tolerance>();
    Tensor factors = host_tensor(int8_factors(layer, pool, vector_ops()).of_input);
    if (!held.evened_out) std::ranges::fill(factors.span<float>(), 1.0f);
    for (Slab& slab : layer.slabs) matrices.emplace_back(&slab.weight, factors);
  });
  pool.run(static_cast<int64_t>(matrices.size()), [&](int64_t i, int) {
    auto& [weight, factors] = matrices[static_cast<size_t>(i)];
    *weight = converted(*weight, held, factors);
  });
  return to;
}

/// An arithmetic of an instruction set.
struct Arithmetics {
  bool int8 = false;
  Isa isa = Isa::avx512;
  std::optional<HalfKind> half = std::nullopt;

  bool is_there() const { return supports(isa) && (!half || half_ops(isa, *half) != nullptr); }
  std::unique_ptr<Device> device() const {
    CpuOptions options = {.isa = isa, .int8 = int8};
    if (half) options.half = chosen_half(isa, *half);
    return make_cpu_device(options);
  }
};

void rounding(benchmark::State& state, const Held& held, const Arithmetics& by) {
  if (!by.is_there()) return state.SkipWithError("this processor lacks it");
  for (auto _ : state)
    for (const float outliers : {1.0f, kFactor}) {
      Block block(outliers);
      const auto exact_device = make_cpu_device(), device = by.device();
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

#define INKSTONE_ROUNDING(name, of, ...) \
  BENCHMARK_CAPTURE(rounding, name, held::of, Arithmetics __VA_ARGS__)->Iterations(1)->Unit(benchmark::kSecond)

INKSTONE_ROUNDING(f16, f16, {});
INKSTONE_ROUNDING(bf16, bf16, {});
INKSTONE_ROUNDING(fp8, fp8, {});
INKSTONE_ROUNDING(int8, rows8, {});
INKSTONE_ROUNDING(int8_of_32, rows8_of_32, {});
INKSTONE_ROUNDING(int8_of_128, rows8_of_128, {});
INKSTONE_ROUNDING(int4, rows4, {});
INKSTONE_ROUNDING(int4_of_32, rows4_of_32, {});
INKSTONE_ROUNDING(int4_of_128, rows4_of_128, {});
INKSTONE_ROUNDING(q8_0, q8_0, {});
INKSTONE_ROUNDING(q4_0, q4_0, {});
INKSTONE_ROUNDING(int8_cpu, cpu8, {});
INKSTONE_ROUNDING(int4_cpu, cpu4, {});
INKSTONE_ROUNDING(f32_by_int8, f32, {true});
INKSTONE_ROUNDING(int8_by_int8, rows8, {true});
INKSTONE_ROUNDING(int4_by_int8, rows4, {true});
INKSTONE_ROUNDING(int8_cpu_by_int8, cpu8, {true});
INKSTONE_ROUNDING(int4_cpu_by_int8, cpu4, {true});
INKSTONE_ROUNDING(f32_by_int8_avx_vnni, f32, {true, Isa::avx_vnni});
INKSTONE_ROUNDING(int8_by_int8_avx_vnni, rows8, {true, Isa::avx_vnni});
INKSTONE_ROUNDING(int4_by_int8_avx_vnni, rows4, {true, Isa::avx_vnni});
INKSTONE_ROUNDING(int8_cpu_by_int8_avx_vnni, cpu8, {true, Isa::avx_vnni});
INKSTONE_ROUNDING(int4_cpu_by_int8_avx_vnni, cpu4, {true, Isa::avx_vnni});
INKSTONE_ROUNDING(f32_by_int8_avx2, f32, {true, Isa::avx2});
INKSTONE_ROUNDING(int8_by_int8_avx2, rows8, {true, Isa::avx2});
INKSTONE_ROUNDING(int4_by_int8_avx2, rows4, {true, Isa::avx2});
INKSTONE_ROUNDING(int8_cpu_by_int8_avx2, cpu8, {true, Isa::avx2});
INKSTONE_ROUNDING(int4_cpu_by_int8_avx2, cpu4, {true, Isa::avx2});
INKSTONE_ROUNDING(f32_by_int8_scalar, f32, {true, Isa::scalar});
INKSTONE_ROUNDING(int8_by_int8_scalar, rows8, {true, Isa::scalar});
INKSTONE_ROUNDING(int4_by_int8_scalar, rows4, {true, Isa::scalar});
INKSTONE_ROUNDING(int8_cpu_by_int8_scalar, cpu8, {true, Isa::scalar});
INKSTONE_ROUNDING(int4_cpu_by_int8_scalar, cpu4, {true, Isa::scalar});
INKSTONE_ROUNDING(f16_by_int8, f16, {true});
INKSTONE_ROUNDING(bf16_by_int8, bf16, {true});
INKSTONE_ROUNDING(fp8_by_int8, fp8, {true});
INKSTONE_ROUNDING(q8_0_by_int8, q8_0, {true});
INKSTONE_ROUNDING(q4_0_by_int8, q4_0, {true});
INKSTONE_ROUNDING(int8_of_32_by_int8, rows8_of_32, {true});
INKSTONE_ROUNDING(int8_of_128_by_int8, rows8_of_128, {true});
INKSTONE_ROUNDING(int4_of_32_by_int8, rows4_of_32, {true});
INKSTONE_ROUNDING(int4_of_128_by_int8, rows4_of_128, {true});
INKSTONE_ROUNDING(int8_by_int8_not_evened_out, cpu8_uneven, {true});
INKSTONE_ROUNDING(f32_by_fp16, f32, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(f16_by_fp16, f16, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(bf16_by_fp16, bf16, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(fp8_by_fp16, fp8, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(int8_by_fp16, rows8, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(int4_by_fp16, rows4, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(int8_cpu_by_fp16, cpu8, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(int4_cpu_by_fp16, cpu4, {false, Isa::avx512, HalfKind::fp16});
INKSTONE_ROUNDING(f32_by_bf16, f32, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(f16_by_bf16, f16, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(bf16_by_bf16, bf16, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(fp8_by_bf16, fp8, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(int8_by_bf16, rows8, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(int4_by_bf16, rows4, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(int8_cpu_by_bf16, cpu8, {false, Isa::avx512, HalfKind::bf16});
INKSTONE_ROUNDING(int4_cpu_by_bf16, cpu4, {false, Isa::avx512, HalfKind::bf16});

#define INKSTONE_ROUNDING_ON_GPU(arithmetic) \
  BENCHMARK_CAPTURE(rounding_on_gpu, arithmetic, CudaArithmetic::arithmetic)->Iterations(1)->Unit(benchmark::kSecond)

INKSTONE_ROUNDING_ON_GPU(f32);
INKSTONE_ROUNDING_ON_GPU(bf16);
INKSTONE_ROUNDING_ON_GPU(fp8);
INKSTONE_ROUNDING_ON_GPU(int8);

}  // namespace
}  // namespace inkstone
