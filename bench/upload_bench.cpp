// Eight blocks of the full-size transformer on a GPU: where they are resident, streamed from host memory, and streamed
// from files in the system's cache, beside what the link alone would take. Streaming is to cost at most 1.2 of that.
#include <array>

#include "cuda/cuda_device.h"
#include "engine/uploaded_blocks.h"
#include "io/checkpoint.h"
#include "model/transformer.h"
#include "ops/ops.h"
#include "random_model_files.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kLayers = 8;
constexpr int64_t kTextTokens = 64;
constexpr int64_t kPixelsOfToken = 16;
constexpr int kSteps = 4;  // in a row, since the first block of a row has nothing to be copied beside
constexpr size_t kPasses = 5;

class Blocks {
 public:
  Blocks(const std::string& format, int64_t size, CudaArithmetic arithmetic)
      : model_(format, kLayers),
        files_(open_checkpoint(model_.folder / "transformer", Component::transformer)),
        device_(make_cuda_device({.arithmetic = arithmetic})),
        ops_(*device_) {
    config_.layers = kLayers;
    resident = bound(*device_);
    HostWeights stored(*device_, HostWeights::Rounding::none), rounded(*device_, HostWeights::Rounding::if_smaller);
    in_files = bound(stored);
    on_host = bound(rounded);
    ThreadPool threads(usable_processors());
    for (BlockWeights& block : on_host.blocks) pin(block, kBlockLayers, *device_, threads);
    const StreamedSet all = all_of(on_host.blocks);
    on_host.block_source = uploaded(on_host.blocks, kBlockLayers, all, *device_, std::nullopt, {});
    in_files.block_source = uploaded(in_files.blocks, kBlockLayers, all, *device_, Caching::cached, {});
    prepare(size);
  }

  /// Of all blocks.
  double compute_seconds(const TransformerWeights& weights) {
    const Transformer transformer(config_, weights);
    return seconds_of([&] {
             for (int step = 0; step < kSteps; ++step) {
               Transformer::Streams x = {.txt = condition_.txt, .img = img_};
               for (size_t i = 0; i < weights.blocks.size(); ++i)
                 x = transformer.block(ops_, i, x, condition_, tables_, rows_);
             }
             device_->wait();
           }) /
           kSteps;
  }

  /// Of copying a block from host memory, as often as there are blocks.
  double link_seconds() {
    const SlabLayout layout = layout_of(on_host.blocks.front(), kBlockLayers);
    const auto slab = device_->upload_slab(layout.bytes());
    return seconds_of([&] {
      for (int64_t i = 0; i < kLayers; ++i) slab->fill(layout.parts());
      slab->wait();
    });
  }

  TransformerWeights resident, on_host, in_files;

 private:
  TransformerWeights bound(WeightPlace& place) {
    WeightLoader loader(files_, place);
    TransformerWeights weights = load_transformer(config_, loader);
    if (&place != device_.get())
      for_each_other_tensor(weights, [&](Tensor& tensor) { tensor = device_->upload(tensor); });
    return weights;
  }

  void prepare(int64_t size) {
    const Transformer transformer(config_, resident);
    const std::vector<float> time = {0.5f};
    tables_ = transformer.modulate(ops_, ops_.upload(host_tensor(time)));
    rows_ = Transformer::rows_of_step(ops_, 0, 1);
    condition_ = transformer.condition(ops_, ops_.upload(random_normal({kTextTokens, config_.text_width}, 1)),
                                       Sequences::equal(1, kTextTokens),
                                       {.height = size / kPixelsOfToken, .width = size / kPixelsOfToken});
    img_ = ops_.upload(random_normal({condition_.img_rows.rows(), config_.width()}, 2));
  }

  RandomModelFiles model_;
  Checkpoint files_;
  std::unique_ptr<Device> device_;
  Ops ops_;
  TransformerConfig config_;
  ModulationTables tables_;
  StepRows rows_;
  Conditioning condition_;
  Tensor img_;
};

/// Arguments: the format, pixels of a side, 1 for products in 8 bits.
void upload(benchmark::State& state) {
  constexpr std::array kFormats = {"bf16", "int8", "int4"};
  const char* const format = kFormats[static_cast<size_t>(state.range(0))];
  if (const std::string reason = why_no_cuda(); !reason.empty()) return give_up(state, reason);
  Blocks blocks(format, state.range(1), state.range(2) != 0 ? CudaArithmetic::fp8 : CudaArithmetic::bf16);
  const std::array<std::pair<const char*, const TransformerWeights*>, 3> ways = {
      {{"resident_s", &blocks.resident}, {"on_host_s", &blocks.on_host}, {"in_files_s", &blocks.in_files}}};
  std::array<std::vector<double>, ways.size()> seconds;
  std::vector<double> link;
  for (const auto& way : ways) blocks.compute_seconds(*way.second);
  for (auto _ : state)
    for (size_t pass = 0; pass < kPasses; ++pass) {
      link.push_back(blocks.link_seconds());
      for (size_t i = 0; i < ways.size(); ++i) seconds[i].push_back(blocks.compute_seconds(*ways[i].second));
    }
  for (size_t i = 0; i < ways.size(); ++i) state.counters[ways[i].first] = median(seconds[i]);
  state.counters["link_s"] = median(link);
  state.SetLabel(fmt::format("{}, {}", format, state.range(2) != 0 ? "fp8" : "bf16"));
}
BENCHMARK(upload)
    ->ArgsProduct({{0, 2}, {512, 1024}, {0, 1}})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace inkstone
