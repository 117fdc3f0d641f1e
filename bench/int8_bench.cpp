// Tolerant linear layers in 8 bits beside the 8-bit peak of the same run and oneDNN's 8-bit products of the same sizes.
//
// Both have their weights ready, in the order that they like. Ours rounds activations in the measured time and gives
// every group of 128 a scale; oneDNN is given codes, and one scale for all. Both take turns.
#include "cpu/cpu_device.h"
#include "onednn.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr size_t kKept = size_t{1} << 30;  // bytes: all of a layer's rounded weights

/// The picture's stream and, in the same call, the text's.
struct Sizes {
  int64_t img_rows = 0;
  int64_t txt_rows = 0;
  int64_t in = 0;
  int64_t out = 0;

  double flop() const { return 2.0 * static_cast<double>((img_rows + txt_rows) * in * out); }
};

Linear layer_of(WeightFormat kind, const Sizes& s, uint64_t seed) {
  const bool packed = kind != WeightFormat::f32;
  Linear layer = {
      {{packed ? random_weight(kind, s.out, s.in, seed) : dense_weight(repeated_normal({s.out, s.in}, seed, 0.02f))}}};
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

void int8(benchmark::State& state, WeightFormat kind, const Sizes& s) {
  const auto device = make_cpu_device({.int8 = true, .keep_rounded = kKept});
  Ops ops(*device);
  const Linear img = layer_of(kind, s, 2), txt = layer_of(kind, s, 3);
  const std::vector<LinearPart> parts = {{repeated_normal({s.img_rows, s.in}, 4), &img},
                                         {repeated_normal({s.txt_rows, s.in}, 5), &txt}};
  const OneDnnThreads threads(usable_processors());
  OneDnnInt8Product peer_img(s.img_rows, s.out, s.in), peer_txt(s.txt_rows, s.out, s.in);
  ops.linear(parts);
  std::vector<double> ours, peer;
  const double peak = measure_int8_peak(usable_processors());
  for (auto _ : state) {
    ours.push_back(seconds_of([&] { benchmark::DoNotOptimize(ops.linear(parts)); }));
    peer.push_back(seconds_of([&] {
      peer_img.run();
      peer_txt.run();
    }));
    state.SetIterationTime(ours.back());
  }
  report(state, s.flop(), peak, measure_int8_peak);
  state.counters["median_s"] = median(ours);
  state.counters["onednn_s"] = median(peer);
  state.counters["ratio"] = median(ours) / median(peer);
}

#define INKSTONE_INT8(name, ...)                                                    \
  BENCHMARK_CAPTURE(int8, name##_f32, WeightFormat::f32, Sizes __VA_ARGS__)         \
      ->UseManualTime()                                                             \
      ->Unit(benchmark::kMillisecond);                                              \
  BENCHMARK_CAPTURE(int8, name##_affine8, WeightFormat::affine8, Sizes __VA_ARGS__) \
      ->UseManualTime()                                                             \
      ->Unit(benchmark::kMillisecond);                                              \
  BENCHMARK_CAPTURE(int8, name##_affine4, WeightFormat::affine4, Sizes __VA_ARGS__) \
      ->UseManualTime()                                                             \
      ->Unit(benchmark::kMillisecond)

INKSTONE_INT8(qkv_512, {1024, 64, 3072, 9216});
INKSTONE_INT8(out_512, {1024, 64, 3072, 3072});
INKSTONE_INT8(up_512, {1024, 64, 3072, 12288});
INKSTONE_INT8(down_512, {1024, 64, 12288, 3072});
INKSTONE_INT8(out_1024, {4096, 64, 3072, 3072});

}  // namespace
}  // namespace inkstone
