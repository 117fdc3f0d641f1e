#include "engine/device_peak.h"

#include "engine/timing.h"

namespace inkstone {
namespace {

constexpr int64_t kSide = 8192;
constexpr double kFlop = 2.0 * kSide * kSide * kSide;
constexpr int64_t kCopied = int64_t{1} << 28;  // numbers: 1 GiB
constexpr int kRuns = 5;

/// After a run that warms up.
template <class Run>
double median_seconds(Device& device, const Run& run) {
  std::vector<double> seconds;
  for (int i = 0; i <= kRuns; ++i) {
    device.wait();
    const auto start = Clock::now();
    const Tensor result = run();
    device.wait();
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  return median(seconds);
}

}  // namespace

ProductPeak::ProductPeak(Device& device, RandomFormat format, int threads) : device_(device) {
  RandomWeights random(device, format, threads);
  layer_ = random.linear({{"square", kSide}}, kSide, Bias::absent);
  x_ = layer_.slabs.front().weight.data;
  layer_ = random.tolerant(layer_);
}

double ProductPeak::measure(Ops& ops) const {
  return kFlop / median_seconds(device_, [&] { return ops.linear(x_, layer_); });
}

double measure_copy_peak(Device& device, Ops& ops) {
  const Tensor from(device.allocate(kCopied * sizeof(float)), 0, {kCopied / kSide, kSide}, DType::f32);
  const double bytes = 2 * static_cast<double>(from.bytes());
  return bytes / median_seconds(device, [&] { return ops.concat_rows({from}); });
}

}  // namespace inkstone
