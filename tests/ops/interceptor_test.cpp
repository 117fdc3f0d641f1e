#include "ops/interceptor.h"

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/ops.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;

/// Passes calls on and keeps what it saw of the last; its result takes the place of the one that the caller allocated,
/// as on a device that hands out results in a form of its own.
class Replacing final : public Interceptor {
 public:
  explicit Replacing(Kernels& inner) : inner_(inner) {}

  std::string op;
  std::vector<Tensor> in;
  size_t results = 0;

 private:
  void intercept(const Call& call) override {
    op = call.op;
    in = call.in;
    results = call.out.size();
    for (Tensor& t : call.out) t = host_tensor(t.shape(), t.dtype());
    call.run(inner_, call.out);
  }

  Kernels& inner_;
};

class InterceptorTest : public ::testing::Test {
 protected:
  using Run = std::function<std::vector<Tensor>(Ops&)>;

  /// The op must be seen under its name, with these activations, and give through the decorator what it gives without.
  void expect(const std::string& op, const std::vector<Tensor>& in, const Run& run) {
    const std::vector<Tensor> expected = run(plain_);
    const std::vector<Tensor> actual = run(intercepted_);
    EXPECT_EQ(decorator_.op, op);
    EXPECT_EQ(decorator_.results, expected.size()) << op;
    ASSERT_EQ(decorator_.in.size(), in.size()) << op;
    for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(decorator_.in[i].data<void>(), in[i].data<void>()) << op << i;
    ASSERT_EQ(actual.size(), expected.size()) << op;
    for (size_t i = 0; i < actual.size(); ++i) EXPECT_EQ(bytes_of(actual[i]), bytes_of(expected[i])) << op;
  }

  static std::string bytes_of(const Tensor& t) { return {t.data<const char>(), t.bytes()}; }
  static Tensor f32(const Shape& shape, uint64_t seed) { return random_normal(shape, seed); }

  std::unique_ptr<Device> device_ = make_reference_device();
  Replacing decorator_{device_->kernels()};
  Ops plain_{*device_};
  Ops intercepted_{*device_, decorator_};

  const Tensor x_ = f32({5, 6}, 1), y_ = f32({5, 6}, 2), factor_ = f32({1}, 3), d_ = f32({6}, 4), e_ = f32({6}, 5);
};

TEST_F(InterceptorTest, PassesPointwiseOpsOn) {
  const Tensor z = f32({5, 6}, 18), scale = f32({1}, 19);
  expect("guided_step", {z, x_, y_, scale, factor_}, [&](Ops& o) {
    return std::vector{o.guided_step(z, {x_, y_, scale}, factor_)};
  });
  expect("add_scaled", {x_, y_, factor_}, [&](Ops& o) { return std::vector{o.add_scaled(x_, y_, factor_)}; });
  expect("scale_shift", {x_, d_, e_}, [&](Ops& o) { return std::vector{o.scale_shift(x_, d_, e_)}; });
  expect("concat_rows", {x_, y_, x_}, [&](Ops& o) { return std::vector{o.concat_rows({x_, y_, x_})}; });
  expect("swiglu", {x_}, [&](Ops& o) { return std::vector{o.swiglu(x_)}; });
  expect("timestep_embedding", {d_}, [&](Ops& o) { return std::vector{o.timestep_embedding(d_, 8)}; });
  expect("to_rgb8", {x_}, [&](Ops& o) { return std::vector{o.to_rgb8(x_)}; });
  const Tensor rgb = plain_.to_rgb8(x_);
  expect("from_rgb8", {rgb}, [&](Ops& o) { return std::vector{o.from_rgb8(rgb)}; });
}

TEST_F(InterceptorTest, PassesLatentsAndConvolutionsOn) {
  const Tensor latents = f32({2, 3, 4, 6}, 6), tokens = f32({12, 12}, 7);
  expect("patchify", {latents}, [&](Ops& o) { return std::vector{o.patchify(latents, 2)}; });
  expect("unpatchify", {tokens}, [&](Ops& o) { return std::vector{o.unpatchify(tokens, {2, 4, 6}, 2)}; });
  const Conv2d conv = {.weight = f32({3, 3, 3, 6}, 8), .bias = f32({3}, 9)};
  expect("conv2d", {latents}, [&](Ops& o) { return std::vector{o.conv2d(latents, conv)}; });
  const Tensor residual = f32({2, 3, 4, 3}, 10);
  expect("conv2d", {latents, residual}, [&](Ops& o) { return std::vector{o.conv2d(latents, conv, residual)}; });
}

TEST_F(InterceptorTest, PassesLinearLayersAndNormsOn) {
  const Linear layer = random_layer(WeightFormat::bf16, 6, 6, 11);
  const Weight table = random_weight(WeightFormat::f32, 4, 3, 12);
  const std::vector<int32_t> rows = {2, 0};
  const Tensor ids = host_tensor(rows);
  const Sequences sequences(std::vector<int64_t>{2, 3});
  const SequenceRows shift = {f32({4, 6}, 13), ids, 0, &sequences}, scale = {shift.table, ids, 1, &sequences};
  expect("embed", {ids}, [&](Ops& o) { return std::vector{o.embed(table, ids)}; });
  expect("rms_norm", {x_},
         [&](Ops& o) { return std::vector{o.rms_norm(x_, d_, {.eps = 0.5f, .activation = Activation::silu})}; });
  expect("layer_norm_modulate", {x_, y_}, [&](Ops& o) {
    return o.layer_norm_modulate({{x_, shift, scale}, {y_, scale, shift}}, 0.5f);
  });
  expect("linear", {x_, y_, y_}, [&](Ops& o) {
    return o.linear({{x_, &layer}, {y_, &layer, {.gate = shift, .residual = y_}}});
  });
}

TEST_F(InterceptorTest, PassesAttentionAndItsJoinOn) {
  const Sequences txt(std::vector<int64_t>{2, 3}), img(std::vector<int64_t>{1, 4});
  const Tensor first = f32({5, 16}, 14), second = f32({5, 16}, 15);
  const Heads heads = {.heads = 4, .kv_heads = 2, .width = 2};
  const auto join = [&](Ops& o) {
    return o.join_qkv({{first, &txt, f32({2}, 16), {}, {f32({5, 1, 2}, 17)}}, {second, &img}}, heads, 0.5f);
  };
  expect("join_qkv", {first, second}, [&](Ops& o) {
    const Qkv qkv = join(o);
    return std::vector{qkv.q, qkv.k, qkv.v};
  });
  const Qkv in = join(plain_);
  expect("attention", {in.q, in.k, in.v}, [&](Ops& o) { return o.attention(in); });
  expect("attention", {in.q, in.k, in.v}, [&](Ops& o) { return o.attention(in, {.causal = true}); });
}

}  // namespace
}  // namespace inkstone
