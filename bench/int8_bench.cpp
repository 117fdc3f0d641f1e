// Tolerant linear layers in 8 bits beside the 8-bit peak of the same run and oneDNN's 8-bit products of the same sizes.
//
// Both have their weights ready, in the order that they like, and are given codes, as the norms and the MLP's first
// layer give them to the model's layers; `rounding` rounds f32 rows in the measured time, as behind f32 attention. Ours
// gives every group of inputs a scale, oneDNN's one to all. Both take turns.
#include "cpu/cpu_device.h"
#include "onednn.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr size_t kKept = size_t{1} << 30;  // bytes: all of a layer's rounded weights
constexpr float kEps = 1e-6f;

/// The picture's stream and, in the same call, the text's.
struct Sizes {
  int64_t img_rows = 0;
  int64_t txt_rows = 0;
  int64_t in = 0;
  int64_t out = 0;

  bool rounding = false;

  double flop() const { return 2.0 * static_cast<double>((img_rows + txt_rows) * in * out); }
};

Linear layer_of(WeightFormat kind, const Sizes& s, uint64_t seed) {
  const bool packed = kind != WeightFormat::f32;
  Linear layer = {
      {{packed ? random_weight(kind, s.out, s.in, seed) : dense_weight(repeated_normal({s.out, s.in}, seed, 0.02f))}}};
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

/// Rows as a norm gives them to the layer that they feed.
Tensor rows_for(Ops& ops, const Linear& layer, const Tensor& x) {
  const Sequences all = Sequences::equal(1, x.dim(0));
  const SequenceRows nothing = {repeated_normal({1, x.dim(1)}, 1, 0), host_tensor(std::vector<int32_t>{0}), 0, &all};
  return ops.layer_norm_modulate({{x, nothing, nothing, &layer}}, kEps)[0];
}

void int8(benchmark::State& state, WeightFormat kind, const Sizes& s) {
  const auto device = make_cpu_device({.int8 = true, .keep_rounded = kKept});
  Ops ops(*device);
  const Linear img = layer_of(kind, s, 2), txt = layer_of(kind, s, 3);
  const Tensor x = repeated_normal({s.img_rows, s.in}, 4), text = repeated_normal({s.txt_rows, s.in}, 5);
  const std::vector<LinearPart> parts = {{s.rounding ? x : rows_for(ops, img, x), &img},
                                         {s.rounding ? text : rows_for(ops, txt, text), &txt}};
  const OneDnnThreads threads(usable_processors());
  OneDnnInt8Product peer_img(s.img_rows, s.out, s.in), peer_txt(s.txt_rows, s.out, s.in);
  ops.linear(parts);
  std::vector<double> ours, peer, ratios;
  const double peak = measure_int8_peak(usable_processors());
  for (auto _ : state) {
    ours.push_back(seconds_of([&] { benchmark::DoNotOptimize(ops.linear(parts)); }));
    peer.push_back(seconds_of([&] {
      peer_img.run();
      peer_txt.run();
    }));
    ratios.push_back(ours.back() / peer.back());
    state.SetIterationTime(ours.back());
  }
  const double peak_after = measure_int8_peak(usable_processors());
  state.counters["median_s"] = median(ours);
  state.counters["onednn_s"] = median(peer);
  state.counters["ratio"] = median(ratios);  // of turns: a processor's clock changes between them
  state.counters["peak"] = std::max(peak, peak_after);
  state.counters["of_peak"] = s.flop() / median(ours) / std::max(peak, peak_after);
  state.counters["onednn_of_peak"] = s.flop() / median(peer) / std::max(peak, peak_after);
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
INKSTONE_INT8(qkv_1024, {4096, 64, 3072, 9216});
INKSTONE_INT8(out_1024, {4096, 64, 3072, 3072});
INKSTONE_INT8(up_1024, {4096, 64, 3072, 12288});
INKSTONE_INT8(down_1024, {4096, 64, 12288, 3072});
INKSTONE_INT8(out_512_rounding, {1024, 64, 3072, 3072, true});

}  // namespace
}  // namespace inkstone
