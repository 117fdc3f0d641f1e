#include "ops/ops.h"

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/files.h"
#include "ops/dry_device.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// Arguments that fit, for each test to spoil one of them.
class OpsTest : public ::testing::Test {
 protected:
  static Tensor f32(const Shape& shape) { return random_normal(shape, 1); }
  static Tensor u8(const Shape& shape) { return host_tensor(shape, DType::u8); }
  static Tensor bf16(const Shape& shape) { return as_bf16(f32(shape)); }
  static Tensor rows(std::vector<int32_t> rows) { return host_tensor(rows); }

  std::unique_ptr<Device> device_ = make_reference_device();
  Ops ops_{*device_};
  const Sequences sequences_{std::vector<int64_t>{2, 3}};
  const SequenceRows vectors_ = {f32({4, 6}), rows({0, 1}), 1, &sequences_};  // width 6 for 5 rows
  const Linear layer_ = random_layer(WeightFormat::f32, 6, 4, 2);
  const Heads heads_ = {.heads = 4, .kv_heads = 2, .width = 2};
};

#define EXPECT_REFUSED(call, ...) EXPECT_THAT(error_of([&] { call; }), AllOf(StartsWith(kOp), __VA_ARGS__))

/// A device whose products read bf16.
TEST_F(OpsTest, WhatOnlyProductsReadIsNarrow) {
  const auto device = make_dry_device(nullptr, DType::bf16);
  Ops ops(*device);
  const Tensor x = f32({3, 4}), narrow = bf16({3, 4});
  EXPECT_EQ(ops.rms_norm(x, f32({4}), {}).dtype(), DType::f32);
  EXPECT_EQ(ops.rms_norm(x, f32({4}), {}, Ops::Use::operand).dtype(), DType::bf16);
  EXPECT_EQ(ops.linear(x, layer_).dtype(), DType::f32);
  EXPECT_EQ(ops.linear(narrow, layer_, {}, Ops::Use::operand).dtype(), DType::bf16);
  const Tensor heads = x.reshape({3, 1, 4});
  EXPECT_EQ(ops.attention({heads, heads, heads, {{Sequences::equal(1, 3)}}}).front().dtype(), DType::bf16);
  EXPECT_EQ(ops.concat_rows({narrow, narrow}).dtype(), DType::bf16);
  EXPECT_EQ(ops.concat_rows({narrow, x}).dtype(), DType::f32);
}

TEST_F(OpsTest, Embed) {
  constexpr const char* kOp = "embed: ";
  const Weight table = random_weight(WeightFormat::f32, 7, 4, 1);
  EXPECT_EQ(ops_.embed(table, rows({6, 0, 6})).shape(), (Shape{3, 4}));
  EXPECT_REFUSED(ops_.embed(table, f32({3})), HasSubstr("ids are F32 [3], I32 [n] is needed"));
  EXPECT_REFUSED(ops_.embed(table, rows({1, 2}).reshape({2, 1})), HasSubstr("I32 [2, 1]"));
  EXPECT_REFUSED(ops_.embed({.out = 7, .in = 4}, rows({1})),
                 HasSubstr("table holds F32 [], 112 bytes for f32 [7, 4] are needed"));
}

TEST_F(OpsTest, Linear) {
  constexpr const char* kOp = "linear: ";
  const Tensor x = f32({5, 4});
  const Linear next = random_layer(WeightFormat::f32, 3, 6, 1);
  EXPECT_EQ(ops_.linear(x, layer_, {.gate = vectors_, .residual = f32({5, 6}), .feeds = &next}).shape(), (Shape{5, 6}));
  EXPECT_EQ(ops_.linear(f32({0, 4}), layer_).shape(), (Shape{0, 6}));

  EXPECT_REFUSED(ops_.linear({}, layer_), HasSubstr("x is F32 []"));
  EXPECT_REFUSED(ops_.linear(bf16({5, 4}), layer_), HasSubstr("x is BF16 [5, 4], a tensor of F32"));
  EXPECT_REFUSED(ops_.linear(f32({1, 5, 4}), layer_), HasSubstr("x is [1, 5, 4], a tensor of rank 2"));
  EXPECT_REFUSED(ops_.linear(f32({5, 3}), layer_), HasSubstr("x has width 3, weight [6, 4] takes 4"));
  EXPECT_REFUSED(ops_.linear({{x, nullptr}}), HasSubstr("x [5, 4] has no layer"));
  EXPECT_REFUSED(ops_.linear(x, Linear()), HasSubstr("no weights"));
  EXPECT_REFUSED(ops_.linear(x, layer_, {.residual = f32({5, 4})}), HasSubstr("residual is F32 [5, 4], F32 [5, 6]"));
  EXPECT_REFUSED(ops_.linear(x, layer_, {.feeds = &layer_}),
                 HasSubstr("output [5, 6] cannot feed a layer that takes 4"));
}

TEST_F(OpsTest, LinearLooksIntoTheLayer) {
  constexpr const char* kOp = "linear: ";
  const Tensor x = f32({5, 64});
  Linear short_bias = random_layer(WeightFormat::f32, 6, 64, 1);
  short_bias.slabs[0].bias = f32({5});
  EXPECT_REFUSED(ops_.linear(x, short_bias), HasSubstr("bias is F32 [5], F32 [6]"));
  Linear misfit = layer_;
  misfit.slabs[0].branches = {{dense_weight(f32({2, 4})), dense_weight(f32({6, 3}))}};
  EXPECT_REFUSED(ops_.linear(f32({5, 4}), misfit),
                 HasSubstr("side branch [2, 4] [6, 3] cannot stand beside weight [6, 4]"));

  Linear uneven = random_layer(WeightFormat::f32, 6, 64, 1);
  uneven.slabs.push_back({random_weight(WeightFormat::f32, 2, 32, 1), {}});
  EXPECT_REFUSED(ops_.linear(x, uneven), HasSubstr("weight [2, 32] takes 32"));

  const auto spoiled = [](const std::function<void(Weight&)>& spoil) {
    Linear layer = random_layer(WeightFormat::affine4, 6, 64, 1);
    spoil(layer.slabs[0].weight);
    return layer;
  };
  EXPECT_REFUSED(ops_.linear(x, spoiled([](Weight& w) { w.in = 63; })),
                 HasSubstr("[6, 63] is int4, whose rows are multiples of 8"));
  EXPECT_REFUSED(ops_.linear(x, spoiled([](Weight& w) { w.group = 48; })), HasSubstr("groups of 48"));
  EXPECT_REFUSED(ops_.linear(x, spoiled([](Weight& w) { w.format = WeightFormat::affine8; })),
                 HasSubstr("weight holds U32 [6, 8], 384 bytes for int8 [6, 64] are needed"));
  EXPECT_REFUSED(ops_.linear(x, spoiled([](Weight& w) { w.offsets = {}; })), HasSubstr("scales [6, 2] and offsets []"));

  Linear fp8 = random_layer(WeightFormat::f8_e4m3, 6, 64, 1);
  fp8.slabs[0].weight.scales = f32({1, 1});
  EXPECT_REFUSED(ops_.linear(x, fp8), HasSubstr("has scales [1, 1] and offsets [], [6, 1] and [] are needed"));
  Linear blocks = random_layer(WeightFormat::q8_0, 6, 64, 1);
  blocks.slabs[0].weight.in = 65;
  EXPECT_REFUSED(ops_.linear(x, blocks), HasSubstr("[6, 65] is q8_0, whose rows are multiples of 32"));
}

TEST_F(OpsTest, VectorsOfSequences) {
  constexpr const char* kOp = "linear: ";
  const Tensor x = f32({5, 4});
  const auto spoiled = [&](const std::function<void(SequenceRows&)>& spoil) {
    SequenceRows vectors = vectors_;
    spoil(vectors);
    return Epilogue{.gate = vectors};
  };
  const Sequences shorter(std::vector<int64_t>{2, 2});
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([&](auto& v) { v.sequences = &shorter; })),
                 HasSubstr("sequences of 4 rows for 5 rows"));
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([](auto& v) { v.sequences = nullptr; })), HasSubstr("missing"));
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([](auto& v) {
                               v.table = f32({4, 5});
                             })),
                 HasSubstr("gate has table [4, 5] for width 6"));
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([](auto& v) {
                               v.row = rows({0, 1, 2});
                             })),
                 HasSubstr("gate is I32 [3], I32 [2]"));
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([](auto& v) { v.slot = 4; })), HasSubstr("slot 4 in table [4, 6]"));
  EXPECT_REFUSED(ops_.linear(x, layer_, spoiled([](auto& v) { v.slot = -1; })), HasSubstr("slot -1"));
}

TEST_F(OpsTest, RmsNorm) {
  constexpr const char* kOp = "rms_norm: ";
  EXPECT_EQ(ops_.rms_norm(f32({2, 3, 3, 4}), f32({4}), {}).shape(), (Shape{2, 3, 3, 4}));
  EXPECT_REFUSED(ops_.rms_norm(f32({2, 4}), f32({2}), {}), HasSubstr("weight is F32 [2], F32 [4]"));
  EXPECT_REFUSED(ops_.rms_norm(f32({2, 4}), bf16({4}), {}), HasSubstr("weight is BF16 [4]"));
  EXPECT_REFUSED(ops_.rms_norm({}, f32({4}), {}), HasSubstr("x is F32 []"));
}

TEST_F(OpsTest, LayerNormModulate) {
  constexpr const char* kOp = "layer_norm_modulate: ";
  const Tensor x = f32({5, 6});
  const Linear next = random_layer(WeightFormat::f32, 3, 6, 1);
  EXPECT_EQ(ops_.layer_norm_modulate({{x, vectors_, vectors_, &next}}, 1e-6f).front().shape(), (Shape{5, 6}));
  EXPECT_REFUSED(ops_.layer_norm_modulate({{f32({5, 4}), vectors_, vectors_}}, 1e-6f),
                 HasSubstr("shift has table [4, 6] for width 4"));
  EXPECT_REFUSED(ops_.layer_norm_modulate({{f32({4, 6}), vectors_, vectors_}}, 1e-6f), HasSubstr("for 4 rows"));
  EXPECT_REFUSED(ops_.layer_norm_modulate({{x, vectors_, {}}}, 1e-6f), HasSubstr("sequences are missing"));
  EXPECT_REFUSED(ops_.layer_norm_modulate({{x, vectors_, vectors_, &layer_}}, 1e-6f),
                 HasSubstr("x [5, 6] cannot feed a layer that takes 4"));
}

TEST_F(OpsTest, JoinQkv) {
  constexpr const char* kOp = "join_qkv: ";
  const QkvPart part = {f32({5, 16}), &sequences_, f32({2}), f32({2}), {f32({5, 1, 2})}};
  const Qkv joined = ops_.join_qkv({part, part}, heads_);
  EXPECT_EQ(joined.q.shape(), (Shape{10, 4, 2}));
  EXPECT_EQ(joined.k.shape(), (Shape{10, 2, 2}));
  EXPECT_EQ(joined.v.shape(), (Shape{10, 2, 2}));

  const auto spoiled = [&](const std::function<void(QkvPart&)>& spoil) {
    QkvPart p = part;
    spoil(p);
    return std::vector{p};
  };
  const Sequences one = Sequences::equal(1, 5);
  EXPECT_REFUSED(ops_.join_qkv({}, heads_), HasSubstr("no part"));
  EXPECT_REFUSED(ops_.join_qkv(spoiled([](auto& p) {
                                 p.qkv = f32({5, 12});
                               }),
                               heads_),
                 HasSubstr("qkv is F32 [5, 12], F32 [5, 16]"));
  EXPECT_REFUSED(ops_.join_qkv(spoiled([](auto& p) { p.qkv = f32({4, 16}); }), heads_), HasSubstr("for 4 rows"));
  EXPECT_REFUSED(ops_.join_qkv(spoiled([](auto& p) { p.q_norm = f32({4}); }), heads_), HasSubstr("q_norm is F32 [4]"));
  EXPECT_REFUSED(ops_.join_qkv(spoiled([](auto& p) { p.k_norm = f32({4}); }), heads_), HasSubstr("k_norm is F32 [4]"));
  EXPECT_REFUSED(ops_.join_qkv(spoiled([](auto& p) {
                                 p.rope = {f32({5, 2, 2})};
                               }),
                               heads_),
                 HasSubstr("rope is F32 [5, 2, 2], F32 [5, 1, 2]"));
  EXPECT_REFUSED(ops_.join_qkv({part, {f32({5, 16}), &one}}, heads_), HasSubstr("streams of 2 and 1 sequences"));
  EXPECT_REFUSED(ops_.join_qkv({part}, {.heads = 4, .kv_heads = 3, .width = 2}), HasSubstr("4 heads cannot share 3"));
  EXPECT_REFUSED(ops_.join_qkv({part}, {.heads = 4, .kv_heads = 0, .width = 2}), HasSubstr("share 0"));
  const QkvPart odd = {f32({5, 9}), &sequences_, {}, {}, {f32({5, 1, 2})}};
  EXPECT_REFUSED(ops_.join_qkv({odd}, {.heads = 1, .kv_heads = 1, .width = 3}), HasSubstr("odd width 3"));
}

TEST_F(OpsTest, Attention) {
  constexpr const char* kOp = "attention: ";
  const Qkv fits = {f32({10, 4, 2}), f32({10, 2, 2}), f32({10, 2, 2}), {{sequences_, sequences_}}};
  const auto out = ops_.attention(fits);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].shape(), (Shape{5, 8}));

  const auto spoiled = [&](const std::function<void(Qkv&)>& spoil) {
    Qkv qkv = fits;
    spoil(qkv);
    return qkv;
  };
  const Linear narrow = {{{dense_weight(f32({5, 3}))}}};
  const Linear* feeds[] = {&narrow, &narrow};
  EXPECT_REFUSED(ops_.attention(fits, {.feeds = feeds}), HasSubstr("cannot feed a layer that takes 3"));
  EXPECT_REFUSED(ops_.attention(fits, {.feeds = std::span(feeds).first(1)}),
                 HasSubstr("2 streams cannot feed 1 layers"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) { in.q = f32({10, 8}); })), HasSubstr("q is [10, 8]"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) {
    in.q = f32({10, 3, 2});
  })),
                 HasSubstr("q [10, 3, 2] cannot share the heads of k [10, 2, 2]"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) { in.k = f32({9, 2, 2}); })), HasSubstr("k is F32 [9, 2, 2]"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) { in.v = f32({10, 2, 3}); })), HasSubstr("v is F32 [10, 2, 3]"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) { in.sequences.streams.pop_back(); })),
                 HasSubstr("q [10, 4, 2] has sequences of 5 rows"));
  EXPECT_REFUSED(ops_.attention(spoiled([](Qkv& in) { in.sequences.streams.clear(); })), HasSubstr("of 0 rows"));
}

TEST_F(OpsTest, Swiglu) {
  constexpr const char* kOp = "swiglu: ";
  EXPECT_EQ(ops_.swiglu(f32({3, 8})).shape(), (Shape{3, 4}));
  EXPECT_REFUSED(ops_.swiglu(f32({3, 7})), HasSubstr("x [3, 7] has no two equal halves"));
  EXPECT_REFUSED(ops_.swiglu(f32({8})), HasSubstr("x is [8]"));
}

TEST_F(OpsTest, TimestepEmbedding) {
  constexpr const char* kOp = "timestep_embedding: ";
  EXPECT_EQ(ops_.timestep_embedding(f32({3}), 8).shape(), (Shape{3, 8}));
  EXPECT_REFUSED(ops_.timestep_embedding(f32({3, 1}), 8), HasSubstr("t is F32 [3, 1]"));
  EXPECT_REFUSED(ops_.timestep_embedding(bf16({3}), 8), HasSubstr("t is BF16 [3]"));
  EXPECT_REFUSED(ops_.timestep_embedding(f32({3}), 7), HasSubstr("t [3] has width 7"));
}

TEST_F(OpsTest, Patchify) {
  constexpr const char* kOp = "patchify: ";
  EXPECT_EQ(ops_.patchify(f32({2, 3, 4, 6}), 2).shape(), (Shape{12, 12}));
  EXPECT_REFUSED(ops_.patchify(f32({3, 4, 6}), 2), HasSubstr("latents is [3, 4, 6], a tensor of rank 4"));
  EXPECT_REFUSED(ops_.patchify(f32({2, 3, 5, 6}), 2), HasSubstr("latents [2, 3, 5, 6] cannot be cut"));
  EXPECT_REFUSED(ops_.patchify(f32({2, 3, 4, 6}), 0), HasSubstr("side 0"));
}

TEST_F(OpsTest, Unpatchify) {
  constexpr const char* kOp = "unpatchify: ";
  EXPECT_EQ(ops_.unpatchify(f32({12, 12}), {2, 4, 6}, 2).shape(), (Shape{2, 4, 6, 3}));
  EXPECT_REFUSED(ops_.unpatchify(f32({11, 12}), {2, 4, 6}, 2), HasSubstr("tokens [11, 12] are not latents [2, 4, 6]"));
  EXPECT_REFUSED(ops_.unpatchify(f32({12, 10}), {2, 4, 6}, 2), HasSubstr("tokens [12, 10]"));
  EXPECT_REFUSED(ops_.unpatchify(f32({12, 12}), {2, 3, 8}, 2), HasSubstr("latents [2, 3, 8]"));
  EXPECT_REFUSED(ops_.unpatchify(f32({12, 12}), {8, 6}, 2), HasSubstr("(count, height, width)"));
}

TEST_F(OpsTest, GuidedStep) {
  constexpr const char* kOp = "guided_step: ";
  const Tensor x = f32({3, 4}), turned = f32({4, 3}), one = f32({1}), three = f32({3});
  EXPECT_EQ(ops_.guided_step(x, {x, x, one}, one).shape(), (Shape{3, 4}));
  EXPECT_REFUSED(ops_.guided_step(x, {turned, x, one}, one), HasSubstr("cond is F32 [4, 3], F32 [3, 4]"));
  EXPECT_REFUSED(ops_.guided_step(x, {x, turned, one}, one), HasSubstr("uncond is F32 [4, 3], F32 [3, 4]"));
  EXPECT_REFUSED(ops_.guided_step(x, {x, x, three}, one), HasSubstr("scale is F32 [3], F32 [1]"));
  EXPECT_REFUSED(ops_.guided_step(x, {x, x, one}, three), HasSubstr("factor is F32 [3], F32 [1]"));
  EXPECT_REFUSED(ops_.guided_step(three, {three, three, one}, one), HasSubstr("x is [3]"));
}

TEST_F(OpsTest, AddScaled) {
  constexpr const char* kOp = "add_scaled: ";
  EXPECT_EQ(ops_.add_scaled(f32({3, 2, 4}), f32({3, 2, 4}), f32({1})).shape(), (Shape{3, 2, 4}));
  EXPECT_REFUSED(ops_.add_scaled(f32({3, 4}), f32({3, 5}), f32({1})), HasSubstr("y is F32 [3, 5], F32 [3, 4]"));
  EXPECT_REFUSED(ops_.add_scaled(f32({3, 4}), f32({3, 4}), f32({2})), HasSubstr("factor is F32 [2]"));
}

TEST_F(OpsTest, ScaleShift) {
  constexpr const char* kOp = "scale_shift: ";
  EXPECT_EQ(ops_.scale_shift(f32({2, 3, 4}), f32({4}), f32({4})).shape(), (Shape{2, 3, 4}));
  EXPECT_REFUSED(ops_.scale_shift(f32({2, 4}), f32({2}), f32({4})), HasSubstr("scale is F32 [2], F32 [4]"));
  EXPECT_REFUSED(ops_.scale_shift(f32({2, 4}), f32({4}), f32({2})), HasSubstr("shift is F32 [2], F32 [4]"));
}

TEST_F(OpsTest, ConcatRows) {
  constexpr const char* kOp = "concat_rows: ";
  EXPECT_EQ(ops_.concat_rows({f32({2, 4}), f32({0, 4}), f32({1, 4})}).shape(), (Shape{3, 4}));
  EXPECT_REFUSED(ops_.concat_rows({}), HasSubstr("no part"));
  EXPECT_REFUSED(ops_.concat_rows({f32({2, 4}), f32({2, 3})}), HasSubstr("[2, 3] cannot stand below [2, 4]"));
  EXPECT_REFUSED(ops_.concat_rows({f32({2, 4}), u8({2, 4})}), HasSubstr("part is U8 [2, 4]"));
}

TEST_F(OpsTest, Conv2d) {
  constexpr const char* kOp = "conv2d: ";
  const Tensor x = f32({2, 5, 7, 3});
  const Conv2d conv = {.weight = f32({4, 3, 3, 3}), .bias = f32({4})};
  const auto changed = [&](const std::function<void(Conv2d&)>& change) {
    Conv2d c = conv;
    change(c);
    return c;
  };
  EXPECT_EQ(ops_.conv2d(x, conv, f32({2, 5, 7, 4})).shape(), (Shape{2, 5, 7, 4}));
  EXPECT_EQ(ops_.conv2d(x, changed([](auto& c) { c.upsampling = 2; })).shape(), (Shape{2, 10, 14, 4}));
  EXPECT_EQ(ops_.conv2d(x, changed([](auto& c) { c.stride = 2, c.padding = Padding::after; })).shape(),
            (Shape{2, 2, 3, 4}));

  EXPECT_REFUSED(ops_.conv2d(f32({5, 7, 3}), conv), HasSubstr("x is [5, 7, 3]"));
  EXPECT_REFUSED(ops_.conv2d(f32({2, 5, 7, 4}), conv), HasSubstr("weight is [4, 3, 3, 3] for x [2, 5, 7, 4]"));
  EXPECT_REFUSED(ops_.conv2d(x, changed([](auto& c) { c.weight = f32({4, 1, 1, 3}); })), HasSubstr("[4, 1, 1, 3]"));
  EXPECT_REFUSED(ops_.conv2d(x, changed([](auto& c) { c.weight = f32({4, 27}); })), HasSubstr("[4, 27]"));
  EXPECT_REFUSED(ops_.conv2d(x, changed([](auto& c) { c.bias = f32({3}); })), HasSubstr("bias is F32 [3], F32 [4]"));
  EXPECT_REFUSED(ops_.conv2d(x, changed([](auto& c) { c.stride = 3; })), HasSubstr("stride 3"));
  EXPECT_REFUSED(ops_.conv2d(x, changed([](auto& c) { c.upsampling = 0; })), HasSubstr("upsampling 0"));
  EXPECT_REFUSED(ops_.conv2d(x, conv, f32({2, 5, 7, 3})), HasSubstr("residual is F32 [2, 5, 7, 3], F32 [2, 5, 7, 4]"));
}

TEST_F(OpsTest, Rgb8) {
  EXPECT_EQ(ops_.to_rgb8(f32({2, 2, 3})).dtype(), DType::u8);
  EXPECT_EQ(ops_.from_rgb8(u8({2, 2, 3})).dtype(), DType::f32);
  EXPECT_EQ(error_of([&] { ops_.to_rgb8(u8({2, 2, 3})); }), "to_rgb8: x is U8 [2, 2, 3], a tensor of F32 is needed");
  EXPECT_EQ(error_of([&] {
              ops_.from_rgb8(f32({2, 2, 3}));
            }),
            "from_rgb8: x is F32 [2, 2, 3], a tensor of U8 is needed");
}

TEST_F(OpsTest, ResultsAreFreshMemoryOfTheDevice) {
  const Tensor x = f32({3, 4});
  const size_t before = device_->memory().current;
  const Tensor sum = ops_.add_scaled(x, x, f32({1}));
  EXPECT_NE(sum.buffer(), x.buffer());
  EXPECT_GE(device_->memory().current, before + sum.bytes());
}

}  // namespace
}  // namespace inkstone
