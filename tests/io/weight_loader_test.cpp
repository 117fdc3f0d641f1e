#include "io/weight_loader.h"

#include "io/files.h"
#include "io/host_device.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WeightLoaderTest : public FolderTest {
 protected:
  Checkpoint checkpoint(const std::map<std::string, Tensor>& tensors, Component component = Component::transformer) {
    write_safetensors(at("t.safetensors"), tensors);
    return open_checkpoint(at("t.safetensors"), component);
  }

  static std::vector<float> dense_values(const Weight& weight) {
    std::vector<float> all(static_cast<size_t>(weight.out * weight.in));
    dequantize_rows(weight, 0, weight.out, all.data());
    return all;
  }

  HostDevice device_;
};

/// Tensors of a packed layer `x` (2, 64): every word holds `word`; row r has scale r + 1 and offset -r.
std::map<std::string, Tensor> packed_layer(uint32_t word, int bits) {
  const Tensor codes = host_tensor({2, 2 * bits}, DType::u32);
  for (uint32_t& w : codes.span<uint32_t>()) w = word;
  const Tensor scales = counting({2, 1});
  const Tensor offsets = counting({2, 1});
  for (int64_t r = 0; r < 2; ++r) {
    scales.data<float>()[r] = static_cast<float>(r + 1);
    offsets.data<float>()[r] = static_cast<float>(-r);
  }
  return {
      {"x.weight", codes}, {"x.scales", in_bf16(scales)}, {"x.biases", in_bf16(offsets)}, {"x.bias", counting({2})}};
}

TEST_F(WeightLoaderTest, MappedWeightsAreNotCopied) {
  const Checkpoint c =
      checkpoint({{"f.weight", counting({2, 4})}, {"f.bias", counting({2})}, {"h.weight", in_bf16(counting({2, 4}))}});
  WeightLoader loader(c, device_);
  const Linear f = loader.linear("f", 2, 4);
  const Linear h = loader.linear("h", 2, 4, Bias::absent);
  EXPECT_EQ(f.slabs[0].weight.data.buffer(), c.find("f.weight")->data.buffer());
  EXPECT_EQ(f.slabs[0].bias.buffer(), c.find("f.bias")->data.buffer());
  EXPECT_EQ(h.slabs[0].weight.data.buffer(), c.find("h.weight")->data.buffer());
  EXPECT_EQ(h.slabs[0].weight.format, WeightFormat::bf16);
  EXPECT_FALSE(h.slabs[0].bias);
  EXPECT_EQ(dense_values(f.slabs[0].weight), values(counting({2, 4})));
  loader.finish();
}

TEST_F(WeightLoaderTest, SeveralMatricesBecomeTheSlabsOfOneLayer) {
  const Checkpoint c = checkpoint({{"q.weight", counting({4, 3})},
                                   {"q.bias", counting({4})},
                                   {"k.weight", counting({2, 3})},
                                   {"k.bias", counting({2})}});
  const Linear layer = WeightLoader(c, device_).linear({{"q", 4}, {"k", 2}}, 3, Bias::present);
  ASSERT_EQ(layer.slabs.size(), 2u);
  EXPECT_EQ(layer.in(), 3);
  EXPECT_EQ(layer.out(), 6);
  EXPECT_EQ(layer.slabs[1].weight.data.buffer(), c.find("k.weight")->data.buffer());
}

/// Copies when it must.
class LatePlace final : public HostDevice {
 public:
  Tensor upload(const Tensor&) override { fail("a weight that is copied by itself"); }
  Tensor upload_weight(const Tensor& host) override {
    copies_.emplace_back(host, host_tensor(host.shape(), host.dtype()));
    return copies_.back().second;
  }
  void finish_uploads() override {
    for (const auto& [from, to] : copies_)
      std::ranges::copy_n(from.data<std::byte>(), from.bytes(), to.data<std::byte>());
    copies_.clear();
  }

 private:
  std::vector<std::pair<Tensor, Tensor>> copies_;
};

TEST_F(WeightLoaderTest, APlaceMayCopyThemAllAtTheEnd) {
  LatePlace place;
  std::map<std::string, Tensor> tensors = packed_layer(0x76543210u, 4);
  tensors.insert({{"q.weight", counting({4, 3})},
                  {"q.bias", in_bf16(counting({4}))},
                  {"k.weight", in_bf16(counting({2, 3}))},
                  {"k.bias", counting({2})},
                  {"t.weight", counting({5, 3})},
                  {"n.weight", in_bf16(counting({3}))}});
  const Checkpoint c = checkpoint(tensors);
  WeightLoader late(c, place), at_once(c, device_);
  const auto load = [](WeightLoader& loader) {
    std::vector<Tensor> all;
    Linear layer = loader.linear({{"q", 4}, {"k", 2}}, 3, Bias::present), packed = loader.linear("x", 2, 64);
    for (Linear* l : {&layer, &packed}) for_each_tensor(*l, [&](const Tensor& tensor) { all.push_back(tensor); });
    all.push_back(loader.table("t.weight", 5, 3).data);
    all.push_back(loader.vector("n.weight", 3));
    loader.finish();
    return all;
  };
  const std::vector<Tensor> copied = load(late), mapped = load(at_once);
  ASSERT_EQ(copied.size(), mapped.size());
  for (size_t i = 0; i < copied.size(); ++i) {
    ASSERT_EQ(copied[i].bytes(), mapped[i].bytes());
    EXPECT_TRUE(std::ranges::equal(copied[i].span<const std::byte>(), mapped[i].span<const std::byte>())) << i;
  }
}

TEST_F(WeightLoaderTest, HeldTypesConvertMatricesButNotVectors) {
  const Tensor numbers = counting({1, 300});  // above 256 bf16 has even numbers only
  const Checkpoint c =
      checkpoint({{"f.weight", numbers}, {"h.weight", in_bf16(numbers)}, {"n.weight", in_bf16(counting({3}))}});
  WeightLoader as_bf16(c, device_, DType::bf16);
  const Weight rounded = as_bf16.linear("f", 1, 300, Bias::absent).slabs[0].weight;
  EXPECT_EQ(rounded.format, WeightFormat::bf16);
  EXPECT_EQ(dense_values(rounded)[257], 256.0f);
  EXPECT_EQ(dense_values(rounded)[259], 260.0f);
  EXPECT_EQ(as_bf16.vector("n.weight", 3).dtype(), DType::f32);

  WeightLoader as_f32(c, device_, DType::f32);
  const Weight widened = as_f32.linear("h", 1, 300, Bias::absent).slabs[0].weight;
  EXPECT_EQ(widened.format, WeightFormat::f32);
  EXPECT_EQ(dense_values(widened)[257], 256.0f);
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_, DType::f16); }), HasSubstr("held as F16; F32 and BF16 work"));
}

TEST_F(WeightLoaderTest, PackedLayersKeepTheirCodesInTheOrderOfMlx) {
  const Checkpoint c = checkpoint(packed_layer(0x76543210u, 4));
  WeightLoader loader(c, device_, DType::bf16);
  const Linear layer = loader.linear("x", 2, 64);
  const Weight& w = layer.slabs[0].weight;
  EXPECT_EQ(w.format, WeightFormat::affine4);
  EXPECT_EQ(w.group, 64);
  EXPECT_EQ(w.data.buffer(), c.find("x.weight")->data.buffer()) << "stays packed and mapped";
  const std::vector<float> all = dense_values(w);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(all[i], static_cast<float>(i % 8));
    EXPECT_EQ(all[64 + i], static_cast<float>(2 * (i % 8)) - 1);
  }
  EXPECT_EQ(values(layer.slabs[0].bias), values(counting({2})));
  loader.finish();
}

TEST_F(WeightLoaderTest, BitsAreInferredForEachTensor) {
  const Checkpoint c = checkpoint(packed_layer(0x03020100u, 8));
  const Weight w = WeightLoader(c, device_).linear("x", 2, 64).slabs[0].weight;
  EXPECT_EQ(w.format, WeightFormat::affine8);
  EXPECT_EQ(dense_values(w)[63], 3.0f);
}

TEST_F(WeightLoaderTest, GroupsAreInferredForAComponent) {
  constexpr int64_t kIn = 128;
  for (const int64_t group : {32, 64, 128})
    for (const int bits : {4, 8}) {
      SCOPED_TRACE(fmt::format("groups of {}, {} bits", group, bits));
      std::map<std::string, Tensor> tensors;
      for (const auto& [layer, out] : {std::pair("transformer_blocks.0.attn.to_q", kIn), {"x", int64_t{2}}}) {
        const Tensor codes = host_tensor({out, kIn * bits / 32}, DType::u32);
        std::ranges::fill(codes.span<uint32_t>(), 0x03020100u);
        tensors[fmt::format("{}.weight", layer)] = codes;
        tensors[fmt::format("{}.scales", layer)] = counting({out, kIn / group});
        tensors[fmt::format("{}.biases", layer)] = counting({out, kIn / group});
      }
      const Checkpoint c = checkpoint(tensors);
      const Weight w = WeightLoader(c, device_).linear("x", 2, kIn, Bias::absent).slabs[0].weight;
      EXPECT_EQ(w.group, group);
      EXPECT_EQ(w.format, bits == 4 ? WeightFormat::affine4 : WeightFormat::affine8);
      const std::vector<float> all = dense_values(w);
      const auto last = static_cast<float>(2 * kIn / group - 1);  // the number of the last group
      EXPECT_EQ(all.back(), bits == 4 ? last : 3 * last + last);  // the last code is 0 or 3
      EXPECT_EQ(all[static_cast<size_t>(group)], 1.0f);
    }
}

TEST_F(WeightLoaderTest, PackedLayersHeldInF32AreDequantisedExactly) {
  const Checkpoint c = checkpoint(packed_layer(0xfedcba98u, 4));
  WeightLoader packed(c, device_);
  WeightLoader dense(c, device_, DType::f32);
  const Weight w = dense.linear("x", 2, 64).slabs[0].weight;
  EXPECT_EQ(w.format, WeightFormat::f32);
  EXPECT_EQ(dense_values(w), dense_values(packed.linear("x", 2, 64).slabs[0].weight));
  EXPECT_EQ(dense_values(w)[64], 2 * 8.0f - 1);
  dense.finish();
}

TEST_F(WeightLoaderTest, IncompletePackedLayersAreRefused) {
  for (const std::string part : {"x.scales", "x.biases"}) {
    auto tensors = packed_layer(0, 4);
    tensors.erase(part);
    tensors.emplace("y.scales", counting({1}));  // keeps the folder one of mflux
    const Checkpoint c = checkpoint(tensors);
    EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("x", 2, 64); }),
                AllOf(HasSubstr("\"x.weight\": is packed, but " + part + " is missing")));
  }
}

TEST_F(WeightLoaderTest, OtherModesOfMlxAreRefusedByName) {
  auto tensors = packed_layer(0, 4);
  tensors.erase("x.biases");
  tensors["x.scales"] = host_tensor({2, 2}, DType::u8);
  const Checkpoint c = checkpoint(tensors);
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("x", 2, 64); }),
              HasSubstr("\"x.weight\": has U8 scales and no biases, as MLX's modes mxfp4, mxfp8 and nvfp4"));
}

TEST_F(WeightLoaderTest, MisshapenPackedLayersAreRefused) {
  const auto error_with = [&](const std::string& name, const Tensor& tensor) {
    auto tensors = packed_layer(0, 4);
    tensors[name] = tensor;
    const Checkpoint c = checkpoint(tensors);
    return error_of([&] { WeightLoader(c, device_).linear("x", 2, 64); });
  };
  EXPECT_THAT(error_with("x.weight", host_tensor({2, 6}, DType::u32)), HasSubstr("3 bits per weight"));
  EXPECT_THAT(error_with("x.weight", host_tensor({2, 9}, DType::u32)), HasSubstr("4.5 bits per weight"));
  EXPECT_THAT(error_with("x.weight", host_tensor({2, 8}, DType::i32)), HasSubstr("must be U32"));
  EXPECT_THAT(error_with("x.weight", host_tensor({3, 8}, DType::u32)), HasSubstr("equal shapes [3, in / group]"));
  EXPECT_THAT(error_with("x.scales", counting({2, 2})), HasSubstr("found [2, 2] and [2, 1]"));
  EXPECT_THAT(error_with("x.scales", host_tensor({2, 1}, DType::u8)),
              AllOf(HasSubstr("\"x.scales\""), HasSubstr("is U8; F32, F16 and BF16 work")));
  EXPECT_THAT(error_with("x.weight", host_tensor({0, 4611686018427387903 / 64}, DType::u32)),
              HasSubstr("must be U32 with two axes"));
}

TEST_F(WeightLoaderTest, APackedLayerOfAnotherSizeIsRefused) {
  const Checkpoint c = checkpoint(packed_layer(0, 4));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("x", 2, 128); }),
              HasSubstr("holds [2, 64], [2, 128] is needed"));
}

TEST_F(WeightLoaderTest, OneByOneConvolutionsAreMatricesInEitherLayout) {
  const Checkpoint c = checkpoint({{"p.weight", counting({3, 2, 1, 1, 1})}, {"p.bias", counting({3})}}, Component::vae);
  const Weight w = WeightLoader(c, device_).linear("p", 3, 2).slabs[0].weight;
  EXPECT_EQ(w.data.shape(), (Shape{3, 2}));
  const Checkpoint mlx = checkpoint(
      {{"post_quant_conv.conv3d.weight", counting({3, 1, 1, 1, 2})}, {"post_quant_conv.conv3d.bias", counting({3})}},
      Component::vae);
  EXPECT_EQ(WeightLoader(mlx, device_).linear("post_quant_conv", 3, 2).slabs[0].weight.data.shape(), (Shape{3, 2}));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("p", 2, 3); }),
              HasSubstr("has shape [3, 2, 1, 1, 1], [2, 3] is needed"));
}

TEST_F(WeightLoaderTest, ConvolutionsBecomeChannelsLastAndKeepTheLastFrame) {
  const Checkpoint c = checkpoint({{"c.weight", counting({2, 4, 3, 3, 3})},
                                   {"c.bias", counting({2})},
                                   {"r.weight", in_bf16(counting({2, 4, 3, 3}))},
                                   {"r.bias", counting({2})}},
                                  Component::vae);
  WeightLoader loader(c, device_);
  const Conv2d causal = loader.conv2d("c", 2, 4);
  const Conv2d resample = loader.conv2d("r", 2, 4);
  ASSERT_EQ(causal.weight.shape(), (Shape{2, 3, 3, 4}));
  EXPECT_EQ(causal.weight.dtype(), DType::f32);
  EXPECT_EQ(resample.weight.dtype(), DType::bf16);
  const Tensor flat = to_f32(resample.weight);
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t y = 0; y < 3; ++y)
      for (int64_t x = 0; x < 3; ++x)
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t at = ((o * 3 + y) * 3 + x) * 4 + i;
          EXPECT_EQ(causal.weight.data<float>()[at], static_cast<float>((((o * 4 + i) * 3 + 2) * 3 + y) * 3 + x));
          EXPECT_EQ(flat.data<float>()[at], static_cast<float>(((o * 4 + i) * 3 + y) * 3 + x));
        }
}

TEST_F(WeightLoaderTest, ChannelsLastConvolutionsOfMlxGiveTheSame) {
  const Checkpoint c = checkpoint({{"decoder.conv_in.conv3d.weight", counting({2, 3, 3, 3, 4})},
                                   {"decoder.conv_in.conv3d.bias", counting({2})},
                                   {"decoder.up_block0.upsamplers.0.resample_conv.weight", counting({2, 3, 3, 4})},
                                   {"decoder.up_block0.upsamplers.0.resample_conv.bias", counting({2})}},
                                  Component::vae);
  WeightLoader loader(c, device_);
  const Conv2d causal = loader.conv2d("decoder.conv_in", 2, 4);
  const Conv2d flat = loader.conv2d("decoder.up_blocks.0.upsamplers.0.resample.1", 2, 4);
  EXPECT_EQ(values(flat.weight), values(counting({2, 3, 3, 4})));
  const int64_t frame = 3 * 3 * 4;
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t i = 0; i < frame; ++i)
      EXPECT_EQ(causal.weight.data<float>()[o * frame + i], static_cast<float>((o * 3 + 2) * frame + i));
  loader.finish();
}

TEST_F(WeightLoaderTest, MisshapenConvolutionsAreRefused) {
  const Checkpoint c = checkpoint({{"c.weight", counting({2, 4, 3, 3, 1})}, {"c.bias", counting({2})}}, Component::vae);
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).conv2d("c", 2, 4); }),
              HasSubstr("has shape [2, 4, 3, 3, 1], [2, 4, 3, 3] or [2, 4, 3, 3, 3] is needed"));
}

TEST_F(WeightLoaderTest, AVaesVectorsMayHaveAxesOfOneNumber) {
  const Checkpoint c = checkpoint({{"g.gamma", in_bf16(counting({4, 1, 1, 1}))}}, Component::vae);
  EXPECT_THAT(values(WeightLoader(c, device_).vector("g.gamma", 4)), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).vector("g.gamma", 5); }),
              HasSubstr("has shape [4, 1, 1, 1], [5] is needed"));
  const Checkpoint square = checkpoint({{"g.gamma", counting({2, 2})}}, Component::vae);
  EXPECT_THAT(error_of([&] { WeightLoader(square, device_).vector("g.gamma", 4); }),
              HasSubstr("has shape [2, 2], [4] is needed"));
}

TEST_F(WeightLoaderTest, OtherComponentsShapesMustBeTheirOwn) {
  for (const Component component : {Component::transformer, Component::text_encoder}) {
    for (const Shape& shape : {Shape{1, 4}, Shape{4, 1}, Shape{2, 2}}) {
      const Checkpoint c = checkpoint({{"q.bias", counting(shape)}}, component);
      EXPECT_THAT(error_of([&] { WeightLoader(c, device_).vector("q.bias", 4); }),
                  HasSubstr("has shape " + shape.text() + ", [4] is needed"));
    }
    const Checkpoint c = checkpoint({{"q.weight", counting({3, 2, 1, 1})}}, component);
    EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("q", 3, 2, Bias::absent); }),
                HasSubstr("has shape [3, 2, 1, 1], [3, 2] is needed"));
  }
}

TEST_F(WeightLoaderTest, TablesMayBeDenseOrPacked) {
  const Checkpoint c = checkpoint(packed_layer(0x11111111u, 4));
  EXPECT_EQ(WeightLoader(c, device_).table("x.weight", 2, 64).format, WeightFormat::affine4);
  const Checkpoint d = checkpoint({{"e.weight", counting({5, 2})}});
  EXPECT_EQ(WeightLoader(d, device_).table("e.weight", 5, 2).data.buffer(), d.find("e.weight")->data.buffer());
}

TEST_F(WeightLoaderTest, OtherDtypesAreRefusedWithThoseThatWork) {
  const Checkpoint c =
      checkpoint({{"x.weight", host_tensor({2, 3}, DType::i8)}, {"x.bias", host_tensor({2}, DType::i32)}});
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("x", 2, 3); }),
              AllOf(HasSubstr("t.safetensors: tensor \"x.weight\": is I8; F32, F16, BF16, F8_E4M3, F8_E5M2 work")));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).vector("x.bias", 2); }), HasSubstr("is I32"));
}

TEST_F(WeightLoaderTest, MissingTensorsAreNamed) {
  const Checkpoint c = checkpoint({{"x.weight", counting({2, 3})}});
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).linear("x", 2, 3); }),
              AllOf(HasSubstr("t.safetensors"), HasSubstr("\"x.bias\" is missing")));
  const Checkpoint misnamed = checkpoint({{"x.weight", counting({2, 3})}, {"x.bias2", counting({2})}});
  EXPECT_THAT(error_of([&] { WeightLoader(misnamed, device_).linear("x", 2, 3); }),
              HasSubstr("\"x.bias\" is missing; unused of its layer: \"x.bias2\""));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).conv2d("y", 2, 3); }), HasSubstr("\"y.weight\" is missing"));
}

TEST_F(WeightLoaderTest, ErrorsNameTheStoredTensorAndTheCanonicalOne) {
  const Checkpoint c = checkpoint({{"model.language_model.norm.weight", counting({3})}}, Component::text_encoder);
  EXPECT_THAT(error_of([&] { WeightLoader(c, device_).vector("model.norm.weight", 4); }),
              AllOf(HasSubstr("\"model.language_model.norm.weight\""), HasSubstr("(model.norm.weight here)")));
}

TEST_F(WeightLoaderTest, SurplusTensorsAreAnErrorUnlessKnown) {
  const Checkpoint c = checkpoint(
      {{"a.weight", counting({2})}, {"b.x", counting({2})}, {"b.y", counting({2})}, {"visual.z", counting({2})}});
  WeightLoader loader(c, device_);
  loader.vector("a.weight", 2);
  loader.ignore("visual.");
  EXPECT_THAT(error_of([&] { loader.finish(); }),
              AllOf(HasSubstr("\"b.x\": is not part of this transformer"), HasSubstr("2 such")));
  loader.ignore("b.");
  EXPECT_NO_THROW(loader.finish());
}

TEST_F(WeightLoaderTest, KnownLayersAreIgnoredByTheirExactNames) {
  const Checkpoint c = checkpoint({{"a.weight", counting({2, 3})},
                                   {"a.bias", counting({2})},
                                   {"a.other", counting({2})},
                                   {"b.weight", counting({2, 3})},
                                   {"b.bias", counting({2})}});
  WeightLoader loader(c, device_);
  loader.ignore_layer("a");
  loader.ignore_layer("b", Bias::absent);
  EXPECT_EQ(loader.surplus(), (std::vector<std::string>{"a.other", "b.bias"}));
}

TEST_F(WeightLoaderTest, AllPartsOfAKnownPackedLayerAreIgnored) {
  const Checkpoint c = checkpoint(
      {{"a.weight", host_tensor({2, 8}, DType::u32)}, {"a.scales", counting({2, 1})}, {"a.biases", counting({2, 1})}});
  WeightLoader loader(c, device_);
  loader.ignore_layer("a", Bias::absent);
  EXPECT_NO_THROW(loader.finish());
}

/// Stops the work at the first upload.
class StoppingDevice final : public HostDevice {
 public:
  Tensor upload(const Tensor& host) override {
    ++uploads;
    source.request_stop();
    return host;
  }
  std::stop_source source;
  int uploads = 0;
};

TEST_F(WeightLoaderTest, StopsAtTheNextTensor) {
  const Checkpoint c =
      checkpoint({{"a.weight", counting({2, 4})}, {"b.weight", counting({2, 4})}, {"c.bias", counting({2})}});
  const auto binding = [&](HeldType held, const std::function<void(WeightLoader&)>& bind) {
    StoppingDevice device;
    WeightLoader loader(c, device, held, device.source.get_token());
    loader.linear("a", 2, 4, Bias::absent);
    EXPECT_THROW(bind(loader), Cancelled);
    EXPECT_EQ(device.uploads, 1);
  };
  for (const HeldType held : {HeldType(), HeldType(DType::bf16)}) {
    binding(held, [](WeightLoader& loader) { loader.linear("b", 2, 4, Bias::absent); });
    binding(held, [](WeightLoader& loader) { loader.vector("c.bias", 2); });
  }
}

}  // namespace
}  // namespace inkstone
