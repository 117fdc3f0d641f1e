// A whole block of the full-size transformer, attention and norms included, beside what oneDNN needs for the block's
// matrix products alone. The two take turns, so that both see the same machine.
#include "block_run.h"
#include "cpu/cpu_device.h"
#include "onednn.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr size_t kKept = size_t{1} << 30;  // bytes: all of a block's rounded weights

/// All products of a block by the peer, on numbers that need not be the block's.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual void run() = 0;
};

/// The products of a layer's slabs, into the columns of one result.
void multiply(const Linear& layer, int64_t rows, const Tensor& x, const Tensor& y) {
  int64_t column = 0;
  for (const Slab& slab : layer.slabs) {
    gemm({.m = rows,
          .n = slab.weight.out,
          .k = layer.in(),
          .x = x.data<float>(),
          .x_stride = layer.in(),
          .w = slab.weight.data.data<float>(),
          .w_stride = layer.in(),
          .y = y.data<float>() + column,
          .y_stride = layer.out()});
    column += slab.weight.out;
  }
}

class F32Peer final : public Peer {
 public:
  F32Peer(Device& device, Ops& ops, int64_t size)
      : random_(device, RandomFormat::f32, usable_processors()),
        block_(ops, random_, size),
        x_(random_.activations({block_.img.dim(0), block_.widest()})),
        y_(host_tensor(x_.shape(), DType::f32)) {}

  void run() override {
    block_.for_layers([&](const Linear& layer, int64_t rows) { multiply(layer, rows, x_, y_); });
  }

 private:
  RandomWeights random_;
  BlockRun block_;
  Tensor x_, y_;
};

class Int8Peer final : public Peer {
 public:
  explicit Int8Peer(const BlockRun& block) {
    block.for_layers([&](const Linear& layer, int64_t rows) {
      for (const Slab& slab : layer.slabs)
        products_.push_back(std::make_unique<OneDnnInt8Product>(rows, slab.weight.out, layer.in()));
    });
  }

  void run() override {
    for (const auto& product : products_) product->run();
  }

 private:
  std::vector<std::unique_ptr<OneDnnInt8Product>> products_;
};

void block(benchmark::State& state, RandomFormat format, bool int8) {
  const auto device = make_cpu_device({.int8 = int8, .keep_rounded = kKept});
  Ops ops(*device);
  RandomWeights random(*device, format, usable_processors());
  const BlockRun run(ops, random, state.range(0));
  std::unique_ptr<Peer> onednn;
  if (int8)
    onednn = std::make_unique<Int8Peer>(run);
  else
    onednn = std::make_unique<F32Peer>(*device, ops, state.range(0));

  const OneDnnThreads threads(usable_processors());
  onednn->run();
  run.run();
  std::vector<double> ours, peer;
  const auto measure_peak = int8 ? measure_int8_peak : measure_f32_peak;
  const double peak = measure_peak(usable_processors());
  for (auto _ : state) {
    ours.push_back(seconds_of([&] { benchmark::DoNotOptimize(run.run()); }));
    peer.push_back(seconds_of([&] { onednn->run(); }));
    state.SetIterationTime(ours.back());
  }
  report(state, run.flop(), peak, measure_peak);
  state.counters["median_s"] = median(ours);
  state.counters["onednn_s"] = median(peer);
  state.counters["ratio"] = median(ours) / median(peer);
}

#define INKSTONE_BLOCK(name, format, int8)                   \
  BENCHMARK_CAPTURE(block, name, RandomFormat::format, int8) \
      ->UseManualTime()                                      \
      ->Unit(benchmark::kMillisecond)                        \
      ->Iterations(7)

INKSTONE_BLOCK(f32, f32, false)->Arg(512)->Arg(1024);
INKSTONE_BLOCK(bf16, bf16, false)->Arg(512);
INKSTONE_BLOCK(int4, int4, false)->Arg(512);
INKSTONE_BLOCK(int8_by_int8, int8, true)->Arg(512)->Arg(1024);
INKSTONE_BLOCK(int4_by_int8, int4, true)->Arg(512);

}  // namespace
}  // namespace inkstone
