// Linear layers beside the f32 peak of the same run and beside oneDNN's products of the same sizes, without epilogues.
//
// Names: what the layer is, at 512x512 or 1024x1024 with 64 tokens of text; the text's layer is computed in the same
// call, as the model does.
#include "cpu/cpu_device.h"
#include "onednn.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

/// Two streams through layers of one size; the second may be empty.
struct Sizes {
  int64_t img_rows = 0;
  int64_t txt_rows = 0;
  int64_t in = 0;
  int64_t out = 0;

  double flop() const { return 2.0 * static_cast<double>((img_rows + txt_rows) * in * out); }
};

Weight weight_of(WeightFormat kind, const Sizes& s, uint64_t seed) {
  if (kind == WeightFormat::affine4 || kind == WeightFormat::affine8) return random_weight(kind, s.out, s.in, seed);
  const Tensor dense = repeated_normal({s.out, s.in}, seed, 0.02f);
  if (kind == WeightFormat::f16) return dense_weight(as_f16(dense));
  return dense_weight(kind == WeightFormat::bf16 ? as_bf16(dense) : dense);
}

void linear(benchmark::State& state, WeightFormat kind, const Sizes& s, Activation activation,
            std::optional<HalfKind> half = std::nullopt) {
  CpuOptions options;
  if (half) options.half = chosen_half(vector_ops().isa, *half);
  const auto device = make_cpu_device(options);
  Ops ops(*device);
  const Tensor bias = repeated_normal({s.out}, 1);
  const auto tolerance = std::make_shared<Tolerance>();
  const Linear img = {{{weight_of(kind, s, 2), bias}}, tolerance}, txt = {{{weight_of(kind, s, 3), bias}}, tolerance};
  const Epilogue epilogue = {.activation = activation};
  std::vector<LinearPart> parts = {{repeated_normal({s.img_rows, s.in}, 4), &img, epilogue}};
  if (s.txt_rows > 0) parts.push_back({repeated_normal({s.txt_rows, s.in}, 5), &txt, epilogue});
  const auto measure_peak = [&](int threads) {
    return half ? measure_half_peak(*options.half->ops, threads) : measure_f32_peak(threads);
  };
  const double peak = measure_peak(usable_processors());
  for (auto _ : state) benchmark::DoNotOptimize(ops.linear(parts));
  report(state, s.flop(), peak, measure_peak);
}

void onednn(benchmark::State& state, const Sizes& s) {
  const Tensor img_w = repeated_normal({s.out, s.in}, 2), txt_w = repeated_normal({s.out, s.in}, 3);
  const Tensor img_x = repeated_normal({s.img_rows, s.in}, 4), txt_x = repeated_normal({s.txt_rows, s.in}, 5);
  const Tensor y = host_tensor({std::max(s.img_rows, s.txt_rows), s.out}, DType::f32);
  const auto product = [&](const Tensor& x, const Tensor& w) {
    if (x.dim(0) == 0) return;
    gemm({.m = x.dim(0),
          .n = s.out,
          .k = s.in,
          .x = x.data<float>(),
          .x_stride = s.in,
          .w = w.data<float>(),
          .w_stride = s.in,
          .y = y.data<float>(),
          .y_stride = s.out});
  };
  const OneDnnThreads threads(usable_processors());
  const double peak = measure_f32_peak(usable_processors());
  for (auto _ : state) {
    product(img_x, img_w);
    product(txt_x, txt_w);
  }
  report(state, s.flop(), peak);
}

#define INKSTONE_LINEAR(name, activation, ...)                                                                      \
  BENCHMARK_CAPTURE(onednn, name, Sizes __VA_ARGS__)->UseRealTime()->Unit(benchmark::kMillisecond);                 \
  BENCHMARK_CAPTURE(linear, name##_f32, WeightFormat::f32, Sizes __VA_ARGS__, activation)                           \
      ->UseRealTime()                                                                                               \
      ->Unit(benchmark::kMillisecond);                                                                              \
  BENCHMARK_CAPTURE(linear, name##_bf16, WeightFormat::bf16, Sizes __VA_ARGS__, activation)                         \
      ->UseRealTime()                                                                                               \
      ->Unit(benchmark::kMillisecond);                                                                              \
  BENCHMARK_CAPTURE(linear, name##_bf16_by_fp16, WeightFormat::bf16, Sizes __VA_ARGS__, activation, HalfKind::fp16) \
      ->UseRealTime()                                                                                               \
      ->Unit(benchmark::kMillisecond);                                                                              \
  BENCHMARK_CAPTURE(linear, name##_bf16_by_bf16, WeightFormat::bf16, Sizes __VA_ARGS__, activation, HalfKind::bf16) \
      ->UseRealTime()                                                                                               \
      ->Unit(benchmark::kMillisecond);                                                                              \
  BENCHMARK_CAPTURE(linear, name##_affine4, WeightFormat::affine4, Sizes __VA_ARGS__, activation)                   \
      ->UseRealTime()                                                                                               \
      ->Unit(benchmark::kMillisecond)

INKSTONE_LINEAR(qkv_512, Activation::none, {1024, 64, 3072, 9216});
INKSTONE_LINEAR(out_512, Activation::none, {1024, 64, 3072, 3072});
INKSTONE_LINEAR(up_512, Activation::gelu_tanh, {1024, 64, 3072, 12288});
INKSTONE_LINEAR(down_512, Activation::none, {1024, 64, 12288, 3072});
INKSTONE_LINEAR(out_1024, Activation::none, {4096, 64, 3072, 3072});
INKSTONE_LINEAR(text, Activation::none, {64, 0, 3072, 9216});
INKSTONE_LINEAR(one_row, Activation::silu, {1, 0, 3072, 9216});
INKSTONE_LINEAR(tiny_qkv, Activation::none, {512, 40, 192, 576});
INKSTONE_LINEAR(tiny_up, Activation::gelu_tanh, {512, 40, 192, 768});
INKSTONE_LINEAR(tiny_down, Activation::none, {512, 40, 768, 192});

}  // namespace
}  // namespace inkstone
