// A block's linear layers on a GPU with what follows them there, beside the rate of a large product in the same
// arithmetic and run: in bf16, in 8 bits, and from each format of weights that is expanded ahead of every product. The
// picture's rows and 64 of text are one call, as in the model.
//
//     INKSTONE_DEVICE=cuda build/bench/gpu_linear_bench
#include "block_run.h"
#include "on_device.h"

namespace inkstone {
namespace {

constexpr int64_t kHeads = 24, kHeadWidth = 128, kWidth = kHeads * kHeadWidth;
constexpr float kEps = 1e-6f;

struct Numbers {
  CudaArithmetic arithmetic = CudaArithmetic::bf16;
  WeightFormat format = WeightFormat::bf16;
};

enum class Kind : uint8_t {
  qkv,    ///< then norms, rotation and joining the streams
  gelu,   ///< which feeds another layer
  gated,  ///< and added to the stream
};
struct Layer {
  Kind kind;
  int64_t in, out;
};

Linear layer_of(BenchDevice& on, const Numbers& numbers, const Layer& shape, uint64_t seed) {
  Linear layer;
  layer.tolerance = std::make_shared<Tolerance>();
  for (int64_t out = 0; out < shape.out; out += kWidth) {
    const bool dense = numbers.format == WeightFormat::bf16;
    Weight weight = dense ? dense_weight(as_bf16(repeated_normal({kWidth, shape.in}, ++seed, 0.02f)))
                          : random_weight(numbers.format, kWidth, shape.in, ++seed);
    layer.slabs.push_back({weight, random_normal({kWidth}, seed)});
  }
  on.device().upload_weights(layer);
  on.device().round_weights(layer);
  return layer;
}

/// A stream's half of a layer.
struct Stream {
  Stream(BenchDevice& on, const Numbers& numbers, const Layer& shape, int64_t rows, uint64_t seed)
      : layer(layer_of(on, numbers, shape, seed)), sequences(Sequences::equal(1, rows)) {
    part = {on.operand(repeated_normal({rows, shape.in}, seed)), &layer};
    if (shape.kind == Kind::gelu) {
      next = layer_of(on, numbers, {Kind::gated, shape.out, kWidth}, seed + 1);
      part.epilogue = {.activation = Activation::gelu_tanh, .feeds = &next};
    }
    if (shape.kind == Kind::gated)
      part.epilogue = {.gate = {on.upload(random_normal({1, shape.out}, seed)),
                                on.upload(host_tensor(std::vector<int32_t>{0})), 0, &sequences},
                       .residual = on.upload(repeated_normal({rows, shape.out}, seed))};
    join = {.sequences = &sequences,
            .q_norm = on.upload(random_normal({kHeadWidth}, seed)),
            .k_norm = on.upload(random_normal({kHeadWidth}, seed)),
            .rope = {on.upload(repeated_normal({rows, kHeadWidth / 2, 2}, seed))}};
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  QkvPart joined(const Tensor& qkv) const {
    QkvPart with = join;
    with.qkv = qkv;
    return with;
  }

  Linear layer, next;  ///< next: what GELU's result is made for
  Sequences sequences;
  LinearPart part;
  QkvPart join;
};

/// Argument: pixels of a side.
void linear(benchmark::State& state, const Numbers& numbers, const Layer& shape) try {
  if (!on_gpu()) return state.SkipWithError("INKSTONE_DEVICE=cuda wanted; linear_bench measures the cpu");
  BenchDevice on(numbers.arithmetic);
  const int64_t side = state.range(0) / kPixelsOfToken, rows = side * side;
  const Stream img(on, numbers, shape, rows, 10), txt(on, numbers, shape, kTextTokens, 20);
  on.time_product(state, 2.0 * static_cast<double>((rows + kTextTokens) * shape.in * shape.out), [&] {
    const std::vector<Tensor> y = on.ops().linear({img.part, txt.part});
    if (shape.kind != Kind::qkv) return y.front();
    return on.ops().join_qkv({img.joined(y[0]), txt.joined(y[1])}, {kHeads, kHeads, kHeadWidth}, kEps).q;
  });
} catch (const Error& error) {  // not every GPU has every arithmetic
  state.SkipWithError(error.what());
}

#define INKSTONE_LAYER(name, numbers, ...)                    \
  BENCHMARK_CAPTURE(linear, name, numbers, Layer __VA_ARGS__) \
      ->UseRealTime()                                         \
      ->Unit(benchmark::kMicrosecond)                         \
      ->Arg(512)                                              \
      ->Arg(1024)
#define INKSTONE_LAYERS(name, ...)                                                     \
  INKSTONE_LAYER(qkv_##name, (Numbers{__VA_ARGS__}), {Kind::qkv, kWidth, 3 * kWidth}); \
  INKSTONE_LAYER(out_##name, (Numbers{__VA_ARGS__}), {Kind::gated, kWidth, kWidth});   \
  INKSTONE_LAYER(up_##name, (Numbers{__VA_ARGS__}), {Kind::gelu, kWidth, 4 * kWidth}); \
  INKSTONE_LAYER(down_##name, (Numbers{__VA_ARGS__}), {Kind::gated, 4 * kWidth, kWidth})

INKSTONE_LAYERS(bf16, CudaArithmetic::bf16, WeightFormat::bf16);
INKSTONE_LAYERS(bf16_by_fp8, CudaArithmetic::fp8, WeightFormat::bf16);
INKSTONE_LAYERS(bf16_by_int8, CudaArithmetic::int8, WeightFormat::bf16);
INKSTONE_LAYERS(int4, CudaArithmetic::bf16, WeightFormat::affine4);
INKSTONE_LAYERS(int8, CudaArithmetic::bf16, WeightFormat::affine8);
INKSTONE_LAYERS(fp8, CudaArithmetic::bf16, WeightFormat::f8_e4m3);
INKSTONE_LAYERS(q8_0, CudaArithmetic::bf16, WeightFormat::q8_0);
INKSTONE_LAYERS(q4_k, CudaArithmetic::bf16, WeightFormat::q4_k);

}  // namespace
}  // namespace inkstone
