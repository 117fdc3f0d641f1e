// Blocks of the full-size transformer, from files in the system's cache to a GPU, beside what one large copy from
// pinned memory reaches in the same run. Binding is to reach 0.85 of that.
#include <algorithm>
#include <array>

#include "core/host_memory.h"
#include "cuda/cuda_device.h"
#include "io/checkpoint.h"
#include "model/transformer.h"
#include "random_model_files.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kSomeLayers = 8, kAllLayers = 60;
constexpr size_t kPasses = 9;
constexpr size_t kLinkBytes = size_t{1} << 30;

/// What is stored, and what the device multiplies.
struct Binding {
  const char* format;
  const char* arithmetic_name;
  CudaArithmetic arithmetic;
};
constexpr std::array kBindings = {
    Binding{"bf16", "bf16", CudaArithmetic::bf16}, Binding{"bf16", "fp8", CudaArithmetic::fp8},
    Binding{"bf16", "int8", CudaArithmetic::int8}, Binding{"fp8", "fp8", CudaArithmetic::fp8},
    Binding{"fp8", "bf16", CudaArithmetic::bf16},  Binding{"int4", "bf16", CudaArithmetic::bf16}};

/// Bytes a second of a copy that nothing slows down.
class Link {
 public:
  explicit Link(Device& device)
      : host_(device.pinned(HostMemory().allocate(kLinkBytes))), slab_(device.upload_slab(kLinkBytes)) {}

  double measure() {
    const UploadPart all = {static_cast<const std::byte*>(host_->data), 0, kLinkBytes};
    return static_cast<double>(kLinkBytes) / seconds_of([&] {
             slab_->fill({&all, 1});
             slab_->wait();
           });
  }

 private:
  std::shared_ptr<Buffer> host_;
  std::unique_ptr<UploadSlab> slab_;
};

size_t bytes_of(const Checkpoint& files) {
  size_t bytes = 0;
  for (const auto& [name, tensor] : files.tensors) bytes += tensor.data.bytes();
  return bytes;
}

/// Arguments: which of kBindings, and how many blocks. `first`: when the device takes its memory from the driver and
/// pins host memory, as in a process that binds once.
void binding(benchmark::State& state) {
  const Binding& how = kBindings[static_cast<size_t>(state.range(0))];
  if (const std::string reason = why_no_cuda(); !reason.empty()) return give_up(state, reason);
  const int64_t layers = state.range(1);
  const RandomModelFiles model(how.format, layers);
  const Checkpoint files = open_checkpoint(model.folder / "transformer", Component::transformer);
  TransformerConfig config;
  config.layers = layers;
  const auto device = make_cuda_device({.arithmetic = how.arithmetic});
  Link link(*device);
  const auto bytes = static_cast<double>(bytes_of(files));
  std::vector<double> bound, reached;
  for (auto _ : state)
    for (size_t pass = 0; pass < kPasses; ++pass) {
      reached.push_back(link.measure());
      TransformerWeights weights;
      bound.push_back(bytes / seconds_of([&] {
                        WeightLoader loader(files, *device);
                        weights = load_transformer(config, loader);
                        device->wait();
                      }));
      files.release_pages();
    }
  state.counters["first_B/s"] = bound.front();
  bound.erase(bound.begin());
  state.counters["B/s"] = median(bound);
  state.counters["least_B/s"] = std::ranges::min(bound);
  state.counters["link_B/s"] = median(reached);
  state.counters["of_link"] = median(bound) / median(reached);
  state.SetLabel(fmt::format("{} files, {}", how.format, how.arithmetic_name));
}
BENCHMARK(binding)
    ->ArgsProduct({benchmark::CreateDenseRange(0, static_cast<int64_t>(kBindings.size()) - 1, 1),
                   {kSomeLayers, kAllLayers}})
    ->ArgNames({"", "blocks"})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace inkstone
