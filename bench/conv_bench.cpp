// The VAE's convolutions beside the peak of the same run and on the cpu oneDNN's, which have no bias, no residual and
// no upsampling: where ours upsamples, oneDNN gets the upsampled picture for nothing.
//
//     INKSTONE_DEVICE=cuda build/bench/conv_bench --benchmark_filter=-onednn
#include "on_device.h"
#include "onednn.h"

namespace inkstone {
namespace {

/// A convolution that gives a square picture.
struct Sizes {
  int64_t side = 0;  ///< of the result
  int64_t in = 0;
  int64_t out = 0;
  int upsampling = 1;

  double flop() const { return 2.0 * 9 * static_cast<double>(side * side * in * out); }
};

void conv2d(benchmark::State& state, const Sizes& s) {
  BenchDevice on;
  const Tensor x = on.upload(repeated_normal({1, s.side / s.upsampling, s.side / s.upsampling, s.in}, 1));
  const Tensor residual = on.upload(repeated_normal({1, s.side, s.side, s.out}, 2));
  const Conv2d conv = {.weight = on.operand(repeated_normal({s.out, 3, 3, s.in}, 3)),
                       .bias = on.upload(repeated_normal({s.out}, 4)),
                       .upsampling = s.upsampling};
  on.time_product(state, s.flop(), [&] { return on.ops().conv2d(x, conv, residual); });
}

void onednn(benchmark::State& state, const Sizes& s) {
  const OneDnnThreads threads(usable_processors());
  const Tensor x = repeated_normal({1, s.side, s.side, s.in}, 1),
               out = host_tensor({1, s.side, s.side, s.out}, DType::f32);
  OneDnnConvolution convolution(x, repeated_normal({s.out, 3, 3, s.in}, 3), out);
  const double peak = measure_f32_peak(usable_processors());
  for (auto _ : state) convolution.run();
  report(state, s.flop(), peak);
}

#define INKSTONE_CONV(name, ...)                                                                    \
  BENCHMARK_CAPTURE(onednn, name, Sizes __VA_ARGS__)->UseRealTime()->Unit(benchmark::kMillisecond); \
  BENCHMARK_CAPTURE(conv2d, name, Sizes __VA_ARGS__)->UseRealTime()->Unit(benchmark::kMillisecond)

// The decoder at 512x512, from the latents on, and the last block at 1024x1024.
INKSTONE_CONV(in_64, {64, 16, 384});
INKSTONE_CONV(middle_64, {64, 384, 384});
INKSTONE_CONV(up_128, {128, 384, 192, 2});
INKSTONE_CONV(block_128, {128, 384, 384});
INKSTONE_CONV(up_256, {256, 384, 192, 2});
INKSTONE_CONV(block_256, {256, 192, 192});
INKSTONE_CONV(up_512, {512, 192, 96, 2});
INKSTONE_CONV(block_512, {512, 96, 96});
INKSTONE_CONV(out_512, {512, 96, 3});
INKSTONE_CONV(block_1024, {1024, 96, 96});
INKSTONE_CONV(tiny_256, {256, 24, 24});

}  // namespace
}  // namespace inkstone
