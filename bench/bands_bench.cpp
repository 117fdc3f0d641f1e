// The full-size decoder in bands beside the same picture decoded as a whole, taking turns. Bands are to take at most
// 1.15 of the time.
#include "cpu/cpu_device.h"
#include "engine/random_weights.h"
#include "model/vae.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

/// Arguments: pixels of a side, rows of latents in a band.
void bands(benchmark::State& state) {
  const auto device = make_cpu_device({});
  Ops ops(*device);
  RandomWeights random(*device, RandomFormat::f32, usable_processors());
  VaeConfig config;
  config.latents_mean.assign(static_cast<size_t>(config.latent_channels), 0.0);
  config.latents_std.assign(static_cast<size_t>(config.latent_channels), 1.0);
  const VaeWeights weights = load_vae(config, random);
  const int64_t side = state.range(0) / config.scale();
  const Tensor latents = random.activations({1, side, side, config.latent_channels});
  const auto seconds = [&](int64_t band_rows) {
    return seconds_of([&] { benchmark::DoNotOptimize(decode(ops, config, weights, latents, band_rows)); });
  };
  std::vector<double> whole, in_bands;
  for (auto _ : state) {
    whole.push_back(seconds(0));
    in_bands.push_back(seconds(state.range(1)));
    state.SetIterationTime(in_bands.back());
  }
  state.counters["whole_s"] = median(whole);
  state.counters["bands_s"] = median(in_bands);
  state.counters["ratio"] = median(in_bands) / median(whole);
}
BENCHMARK(bands)->Args({512, 16})->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);
BENCHMARK(bands)->Args({1024, 16})->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace inkstone
