// A stop request in the middle of an op of the cpu device: the op ends early, and the device works on.
#include <gmock/gmock.h>
#include <stop_token>

#include "cpu/cpu_device.h"
#include "cpu/row_blocks.h"
#include "ops/cpu_under_test.h"
#include "ops/interceptor.h"

namespace inkstone {
namespace {

using ::testing::Le;

/// Requests a stop as soon as an op has begun.
class StopInside final : public Interceptor {
 public:
  explicit StopInside(Kernels& next) : next_(next) {}

  std::stop_source source;
  bool armed = false;

 private:
  void intercept(const Call& call) override {
    if (armed) source.request_stop();
    call.run(next_, call.out);
  }

  Kernels& next_;
};

Conv2d random_conv(int64_t out, int64_t in) {
  return {.weight = random_normal({out, 3, 3, in}, 20, 0.1f), .bias = random_normal({out}, 21)};
}

Qkv random_heads(int64_t rows, const Heads& heads) {
  Qkv in;
  in.sequences.streams.push_back(Sequences::equal(1, rows));
  in.q = random_normal({rows, heads.heads, heads.width}, 1);
  in.k = random_normal({rows, heads.kv_heads, heads.width}, 2);
  in.v = random_normal({rows, heads.kv_heads, heads.width}, 3);
  return in;
}

Linear tolerant(Linear layer) {
  layer.tolerance = std::make_shared<Tolerance>();
  return layer;
}

struct Op {
  const char* name;
  std::function<Tensor(Ops&)> run;
};

/// One op of each way to share out work.
std::vector<Op> ops_to_stop() {
  const Tensor x = random_normal({400, 256}, 7);
  const Linear layer = random_layer(WeightFormat::bf16, 192, 256, 8), rounded = tolerant(layer);
  const Tensor picture = random_normal({1, 20, 20, 32}, 9);
  const Conv2d conv = random_conv(32, 32);
  const Qkv qkv = random_heads(300, {2, 2, 64});
  const Weight table = random_weight(WeightFormat::bf16, 50, 64, 10);
  const Tensor ids = random_indices(100, 50, 11), norm = random_normal({256}, 12);
  return {
      {"embed", [=](Ops& ops) { return ops.embed(table, ids); }},
      {"linear", [=](Ops& ops) { return ops.linear(x, layer); }},
      {"linear that tolerates 8 bits", [=](Ops& ops) { return ops.linear(x, rounded); }},
      {"rms_norm", [=](Ops& ops) { return ops.rms_norm(x, norm, {}); }},
      {"conv2d", [=](Ops& ops) { return ops.conv2d(picture, conv); }},
      {"attention", [=](Ops& ops) { return ops.attention(qkv, {}).front(); }},
  };
}

class StopTest : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Int8, StopTest, testing::Bool());

TEST_P(StopTest, EndsAnOpAndLeavesTheDeviceAsItWas) {
  const auto device = make_cpu_device({.threads = 2, .int8 = GetParam(), .keep_rounded = size_t{1} << 20});
  for (const Op& op : ops_to_stop()) {
    StopInside inside(device->kernels());
    Ops ops(*device, inside);
    device->watch(inside.source.get_token());
    const size_t in_use = device->memory().current;
    inside.armed = true;
    EXPECT_THROW(op.run(ops), Cancelled) << op.name;
    EXPECT_EQ(device->memory().current, in_use) << op.name;
    inside.armed = false;
    device->watch({});
    const Tensor after = op.run(ops);
    const auto fresh = make_cpu_device({.threads = 2, .int8 = GetParam(), .keep_rounded = size_t{1} << 20});
    Ops of_fresh(*fresh);
    EXPECT_EQ(values_of(after), values_of(op.run(of_fresh))) << op.name;
  }
}

/// What the functions below, which cannot have a state, do and count.
struct Inside {
  static inline std::stop_source source;
  static inline int64_t calls = 0;

  static void stop() {
    ++calls;
    source.request_stop();
  }
  static void attend(const AttentionPanel& panel, const KeyBlock& block) {
    stop();
    vector_ops(Isa::scalar).attend(panel, block);
  }
  static void multiply_tile(const ProductTile& tile) {
    stop();
    vector_ops(Isa::scalar).panel.multiply_tile(tile);
  }
  static void multiply_int8_tile(const Int8Tile& tile) {
    stop();
    int8_ops(Isa::scalar).multiply_tile(tile);
  }
};

/// A single task takes long where there are many keys or inputs.
class StopWithinATaskTest : public testing::Test {
 protected:
  StopWithinATaskTest() {
    Inside::source = {};
    Inside::calls = 0;
    vector_.attend = Inside::attend;
    vector_.panel.multiply_tile = Inside::multiply_tile;
    int8_.multiply_tile = Inside::multiply_int8_tile;
    pool_.watch(Inside::source.get_token());
  }

  /// Calls of the innermost function that one op makes until it stops.
  int64_t calls_until_stopped(const std::function<void(Ops&)>& op, bool int8 = false) {
    CpuKernels kernels(pool_, vector_, int8 ? &int8_ : nullptr);
    Ops ops(*device_, kernels);
    EXPECT_THROW(op(ops), Cancelled);
    return Inside::calls;
  }

 private:
  std::unique_ptr<Device> device_ = make_reference_device();
  ThreadPool pool_{1};
  VectorOps vector_ = vector_ops(Isa::scalar);
  Int8Ops int8_ = int8_ops(Isa::scalar);
};

TEST_F(StopWithinATaskTest, AttentionLooksAtEveryBlockOfKeys) {
  const Qkv in = random_heads(3000, {1, 1, 8});
  EXPECT_THAT(calls_until_stopped([&](Ops& ops) { ops.attention(in, {}); }), Le(8));  // panels that share a block
}

TEST_F(StopWithinATaskTest, ProductsLookAtEveryPanelOfWeights) {
  const Tensor x = random_normal({1, 8192}, 1);
  const Linear layer = random_layer(WeightFormat::f32, 8, 8192, 2);
  EXPECT_EQ(calls_until_stopped([&](Ops& ops) { ops.linear(x, layer); }), 1);
}

TEST_F(StopWithinATaskTest, ProductsIn8BitsLookAtEveryPanelOfWeights) {
  const Tensor x = random_normal({1, 8192}, 1);
  const Linear layer = tolerant(random_layer(WeightFormat::f32, 8, 8192, 2));
  EXPECT_EQ(calls_until_stopped([&](Ops& ops) { ops.linear(x, layer); }, true), 1);
}

TEST(RowBlocksTest, AreShortHoweverManyRowsThereAre) {
  constexpr int64_t kRows = 1'000'000'000;
  for (const int64_t width : {1, 3000}) {
    ThreadPool pool(1);
    std::stop_source source;
    pool.watch(source.get_token());
    int64_t seen = 0;
    const auto block = [&](int64_t begin, int64_t end) {
      seen += end - begin;
      source.request_stop();
    };
    EXPECT_THROW(for_row_blocks(pool, kRows, width, block), Cancelled);
    EXPECT_THAT(seen * width, Le(kRows / 100));
  }
}

}  // namespace
}  // namespace inkstone
