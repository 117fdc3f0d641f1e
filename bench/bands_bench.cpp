// The full-size decoder in bands beside the same picture decoded as a whole, taking turns. Bands are to take at most
// 1.15 of the time. And what 8 bits cost that picture.
#include <cmath>

#include "cpu/cpu_device.h"
#include "engine/random_weights.h"
#include "model/vae.h"
#include "ops/ops.h"
#include "report.h"

namespace inkstone {
namespace {

/// The decoder and latents of a picture.
struct Decoder {
  Decoder(Device& device, int64_t pixels) {
    RandomWeights random(device, RandomFormat::f32, usable_processors());
    config.latents_mean.assign(static_cast<size_t>(config.latent_channels), 0.0);
    config.latents_std.assign(static_cast<size_t>(config.latent_channels), 1.0);
    weights = load_vae(config, random);
    const int64_t side = pixels / config.scale();
    latents = random.activations({1, side, side, config.latent_channels});
  }

  Tensor picture(Device& device, int64_t band_rows) const {
    Ops ops(device);
    return decode(ops, config, weights, latents, band_rows);
  }

  VaeConfig config;
  VaeWeights weights;
  Tensor latents;
};

/// Of pictures in [-1, 1], in dB.
double psnr(const Tensor& picture, const Tensor& exact) {
  constexpr double kRange = 2;
  const auto numbers = exact.span<const float>(), others = picture.span<const float>();
  double squares = 0;
  for (size_t i = 0; i < numbers.size(); ++i) squares += std::pow(numbers[i] - others[i], 2.0);
  return 10 * std::log10(kRange * kRange * static_cast<double>(numbers.size()) / squares);
}

/// Arguments: pixels of a side, rows of latents in a band.
void bands(benchmark::State& state) {
  const auto device = make_cpu_device({});
  const Decoder decoder(*device, state.range(0));
  const auto seconds = [&](int64_t band_rows) {
    return seconds_of([&] { benchmark::DoNotOptimize(decoder.picture(*device, band_rows)); });
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

/// The same in 8 bits and bands, beside the whole picture in f32.
void rounded_bands(benchmark::State& state) {
  const auto exact = make_cpu_device({}), rounded = make_cpu_device({.int8 = true});
  const Decoder decoder(*exact, state.range(0));
  const Tensor picture = decoder.picture(*exact, 0);
  Tensor other;
  for (auto _ : state) state.SetIterationTime(seconds_of([&] { other = decoder.picture(*rounded, state.range(1)); }));
  state.counters["psnr_db"] = psnr(other, picture);
}
BENCHMARK(rounded_bands)
    ->Args({256, 8})
    ->Args({512, 0})
    ->Args({512, 16})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(bands)->Args({512, 16})->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);
BENCHMARK(bands)->Args({1024, 16})->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace inkstone
