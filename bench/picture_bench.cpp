// From prompt to PNG on a GPU, every time another prompt: the first picture of an engine, the second, and those after
// it, which find all weights bound. The model's folder is in INKSTONE_MODEL.
#include <array>
#include <cstdlib>
#include <filesystem>

#include "inkstone/inkstone.h"

#include "cuda/cuda_device.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int kWarmCalls = 5;

/// Arguments: pixels of a side, steps, 1 for products in 8 bits.
void picture(benchmark::State& state) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) return give_up(state, reason);
  const char* const folder = std::getenv("INKSTONE_MODEL");
  if (folder == nullptr) return give_up(state, "INKSTONE_MODEL names no model");
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "inkstone-picture-bench.png";
  Engine engine = Engine::open({.model = folder,
                                .device = DeviceKind::cuda,
                                .arithmetic = state.range(2) != 0 ? Arithmetic::fp8 : Arithmetic::f32});
  int prompts = 0;
  std::vector<StageTime> times;
  const auto draw = [&] {
    Request request = {.prompt = fmt::format("a red lighthouse and {} boats on a rocky coast", ++prompts)};
    request.cfg = 1;
    request.width = request.height = state.range(0);
    request.steps = state.range(1);
    const Result result = engine.generate(request);
    times = result.times;
    save_picture(file, result.pictures.front());
  };
  for (auto _ : state) {
    for (const char* which : {"first_s", "second_s"}) state.counters[which] = seconds_of(draw);
    std::vector<double> warm;
    for (int call = 0; call < kWarmCalls; ++call) warm.push_back(seconds_of(draw));
    state.counters["warm_s"] = median(warm);
    for (const StageTime& time : times) state.counters[fmt::format("warm_{}_s", name_of(time.stage))] = time.seconds;
  }
  state.SetLabel(state.range(2) != 0 ? "fp8" : "bf16");
  std::filesystem::remove(file);
}
BENCHMARK(picture)->ArgsProduct({{1024}, {4}, {1, 0}})->Iterations(1)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace inkstone
