// Checkpoints in fp8, plain and scaled: what is held, and every fault.
#include <limits>

#include "io/files.h"
#include "io/host_device.h"
#include "io/weight_loader.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

// Of E4M3.
constexpr uint8_t kOne = 0x38, kMinusTwo = 0xc0, kHalf = 0x30;

Tensor bytes(const Shape& shape, DType type, const std::vector<uint8_t>& values) {
  Tensor t = host_tensor(shape, type);
  EXPECT_EQ(t.bytes(), values.size());
  std::copy(values.begin(), values.end(), t.data<uint8_t>());
  return t;
}

Tensor e4m3() { return bytes({2, 2}, DType::f8_e4m3, {kOne, kMinusTwo, kHalf, kOne}); }

Tensor text(const std::string& json) {
  return bytes({static_cast<int64_t>(json.size())}, DType::u8, {json.begin(), json.end()});
}

Tensor scales(const Shape& shape, std::initializer_list<float> values) {
  return host_tensor(std::span(values.begin(), values.size())).reshape(shape);
}

const std::string kE4m3Format = R"({"format": "float8_e4m3fn"})";

class Fp8Test : public FolderTest {
 protected:
  Checkpoint open(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) const {
    write_safetensors(at("f.safetensors"), tensors, metadata);
    return open_checkpoint(at("f.safetensors"), Component::transformer);
  }

  /// Layer x (2, 2) of a file in which nothing else is left over.
  Weight layer(const Tensors& tensors, HeldType held = std::nullopt,
               const std::map<std::string, std::string>& metadata = {}) {
    const Checkpoint c = open(tensors, metadata);
    WeightLoader loader(c, device_, held);
    const Linear x = loader.linear("x", 2, 2, Bias::absent);
    loader.finish();
    return x.slabs.front().weight;
  }

  std::string error(const Tensors& tensors, const std::map<std::string, std::string>& metadata = {}) {
    return error_of([&] { layer(tensors, std::nullopt, metadata); });
  }

  static std::vector<float> dense(const Weight& weight) {
    std::vector<float> all(static_cast<size_t>(weight.out * weight.in));
    dequantize_rows(weight, 0, weight.out, all.data());
    return all;
  }

  HostDevice device_;
};

TEST_F(Fp8Test, PlainWeightsStayOneByteAndMapped) {
  const Checkpoint c = open({{"x.weight", e4m3()}});
  const Weight w = WeightLoader(c, device_, DType::bf16).linear("x", 2, 2, Bias::absent).slabs[0].weight;
  EXPECT_EQ(w.format, WeightFormat::f8_e4m3);
  EXPECT_EQ(bytes_of(w), 4u);
  EXPECT_EQ(w.data.buffer(), c.find("x.weight")->data.buffer());
  EXPECT_THAT(dense(w), ElementsAre(1, -2, 0.5f, 1));
  const Weight e5m2 = layer({{"x.weight", bytes({2, 2}, DType::f8_e5m2, {0x3c, 0xc0, 0x38, 0x3c})}});
  EXPECT_THAT(dense(e5m2), ElementsAre(1, -2, 0.5f, 1));
}

TEST_F(Fp8Test, WidenedWeightsAreTheSame) {
  for (const Tensors& tensors :
       {Tensors{{"x.weight", e4m3()}}, Tensors{{"x.weight", e4m3()}, {"x.scale_weight", scales({}, {0.3f})}}}) {
    const Weight wide = layer(tensors, DType::f32);
    EXPECT_EQ(wide.format, WeightFormat::f32);
    EXPECT_EQ(dense(wide), dense(layer(tensors)));
  }
}

TEST_F(Fp8Test, VectorsAndConvolutionsAreWidened) {
  const Tensor kernel = host_tensor({1, 1, 3, 3}, DType::f8_e4m3);
  for (uint8_t& x : kernel.span<uint8_t>()) x = kMinusTwo;
  const Checkpoint c = open({{"n.weight", bytes({2}, DType::f8_e4m3, {kHalf, kMinusTwo})},
                             {"c.weight", kernel},
                             {"c.bias", bytes({1}, DType::f8_e5m2, {0x3c})}});
  WeightLoader loader(c, device_);
  EXPECT_EQ(values(loader.vector("n.weight", 2)), (std::vector<float>{0.5f, -2}));
  const Conv2d conv = loader.conv2d("c", 1, 1);
  EXPECT_EQ(conv.weight.dtype(), DType::bf16);
  EXPECT_THAT(values(to_f32(conv.weight)), Each(-2));
  EXPECT_EQ(values(conv.bias), std::vector<float>{1});
  loader.finish();
}

TEST_F(Fp8Test, LegacyScalesMultiply) {
  for (const DType marker : {DType::f8_e4m3, DType::f32}) {
    const Weight w = layer({{"scaled_fp8", host_tensor({2}, marker)},
                            {"x.weight", e4m3()},
                            {"x.scale_weight", scales({}, {0.1f})},
                            {"x.scale_input", scales({}, {1})}});
    EXPECT_EQ(w.format, WeightFormat::f8_e4m3);
    EXPECT_THAT(dense(w), ElementsAre(0.1f, -2 * 0.1f, 0.5f * 0.1f, 0.1f));
  }
}

TEST_F(Fp8Test, LegacyLayersWithoutAScaleAreNotScaled) {
  const Tensors file = {
      {"scaled_fp8", host_tensor({2}, DType::f8_e4m3)}, {"x.weight", e4m3()}, {"x.scale_input", scales({}, {1})}};
  EXPECT_THAT(dense(layer(file)), ElementsAre(1, -2, 0.5f, 1));
}

TEST_F(Fp8Test, NewerScalesAreOfTheTensorOrOfEachOutput) {
  const auto file = [](const Tensor& scale) {
    return Tensors{{"x.weight", e4m3()},
                   {"x.weight_scale", scale},
                   {"x.input_scale", scales({}, {0.7f})},
                   {"x.comfy_quant", text(kE4m3Format)}};
  };
  EXPECT_THAT(dense(layer(file(scales({}, {3})))), ElementsAre(3, -6, 1.5f, 3));
  EXPECT_THAT(dense(layer(file(scales({1}, {3})))), ElementsAre(3, -6, 1.5f, 3));
  EXPECT_THAT(dense(layer(file(scales({2}, {3, 4})))), ElementsAre(3, -6, 2, 4));
  EXPECT_THAT(dense(layer(file(scales({2, 1}, {3, 4})))), ElementsAre(3, -6, 2, 4));
  EXPECT_THAT(dense(layer(file(in_bf16(scales({2}, {3, 4}))))), ElementsAre(3, -6, 2, 4));
}

TEST_F(Fp8Test, TheHeaderMayTellTheFormat) {
  const Tensors file = {{"model.diffusion_model.x.weight", e4m3()},
                        {"model.diffusion_model.x.weight_scale", scales({}, {3})}};
  for (const std::string layer_name : {"x", "model.diffusion_model.x"}) {
    const auto metadata = [&](const std::string& format) {
      return std::map<std::string, std::string>{
          {"_quantization_metadata", R"({"layers": {")" + layer_name + R"(": {"format": ")" + format + R"("}}})"}};
    };
    EXPECT_THAT(dense(layer(file, std::nullopt, metadata("float8_e4m3fn"))), ElementsAre(3, -6, 1.5f, 3));
    EXPECT_THAT(error(file, metadata("nvfp4")), HasSubstr("\"nvfp4\""));
  }
}

TEST_F(Fp8Test, MalformedMetadataIsRefused) {
  const auto refused = [&](const std::string& json) {
    return error({{"x.weight", e4m3()}}, {{"_quantization_metadata", json}});
  };
  EXPECT_THAT(refused("{"), AllOf(HasSubstr("f.safetensors"), HasSubstr("_quantization_metadata")));
  EXPECT_THAT(refused("[]"), HasSubstr("holds [], a JSON object is needed"));
  EXPECT_THAT(refused("{}"), HasSubstr("layers is missing"));
  EXPECT_THAT(refused(R"({"layers": {"x": 1}})"), HasSubstr("x is 1"));
}

TEST_F(Fp8Test, OtherQuantizationsAreRefusedByName) {
  for (const std::string format : {"int8_tensorwise", "nvfp4", "mxfp8", "of_tomorrow"})
    EXPECT_THAT(error({{"x.weight", host_tensor({2, 2}, DType::i8)},
                       {"x.weight_scale", scales({}, {1})},
                       {"x.comfy_quant", text(R"({"format": ")" + format + R"("})")}}),
                AllOf(HasSubstr("f.safetensors: tensor \"x.comfy_quant\""), HasSubstr("\"" + format + "\""),
                      HasSubstr("\"float8_e4m3fn\" or \"float8_e5m2\"")));
}

TEST_F(Fp8Test, FormatsThatAreNoJsonAreRefused) {
  const auto refused = [&](const Tensor& format) {
    return error({{"x.weight", e4m3()}, {"x.weight_scale", scales({}, {1})}, {"x.comfy_quant", format}});
  };
  EXPECT_THAT(refused(text("fp8")), AllOf(HasSubstr("\"x.comfy_quant\""), HasSubstr("not valid JSON")));
  EXPECT_THAT(refused(text("{}")), HasSubstr("format is missing"));
  EXPECT_THAT(refused(counting({3})), HasSubstr("is F32 [3], a text of U8 is needed"));
}

TEST_F(Fp8Test, MissingScalesAreNamed) {
  EXPECT_THAT(error({{"x.weight", e4m3()}, {"x.comfy_quant", text(kE4m3Format)}}),
              HasSubstr("\"x.weight\": is scaled, but x.weight_scale is missing"));
}

TEST_F(Fp8Test, BothScalesAreRefused) {
  EXPECT_THAT(error({{"x.weight", e4m3()}, {"x.weight_scale", scales({}, {1})}, {"x.scale_weight", scales({}, {1})}}),
              HasSubstr("has both x.weight_scale and x.scale_weight"));
}

TEST_F(Fp8Test, ScaledWeightsMustBeOfTheTypeThatIsTold) {
  for (const std::string scale : {"x.weight_scale", "x.scale_weight"})
    EXPECT_THAT(error({{"x.weight", in_bf16(counting({2, 2}))}, {scale, scales({}, {1})}}),
                HasSubstr("\"x.weight\": is scaled and BF16; F8_E4M3 and F8_E5M2 work"));
  EXPECT_THAT(error({{"x.weight", e4m3()},
                     {"x.weight_scale", scales({}, {1})},
                     {"x.comfy_quant", text(R"({"format": "float8_e5m2"})")}}),
              HasSubstr("\"x.weight\": is F8_E4M3, but x.comfy_quant says F8_E5M2"));
  EXPECT_THAT(error({{"scaled_fp8", host_tensor({2}, DType::i8)}, {"x.weight", e4m3()}}),
              HasSubstr("\"scaled_fp8\": marks weights as scaled I8"));
}

TEST_F(Fp8Test, MisshapenOrMistypedScalesAreRefused) {
  EXPECT_THAT(error({{"x.weight", e4m3()}, {"x.weight_scale", scales({3}, {1, 2, 3})}}),
              AllOf(HasSubstr("\"x.weight_scale\": has shape [3]"), HasSubstr("one for each of 2 outputs")));
  EXPECT_THAT(error({{"x.weight", e4m3()}, {"x.scale_weight", host_tensor({}, DType::f64)}}),
              HasSubstr("\"x.scale_weight\": is F64; F32, F16 and BF16 work"));
  EXPECT_THAT(error({{"x.weight", e4m3().reshape({2, 2, 1})}, {"x.weight_scale", scales({}, {1})}}),
              HasSubstr("has shape [2, 2, 1]; two axes are needed"));
  EXPECT_THAT(error({{"x.weight", e4m3().reshape({4, 1})}, {"x.weight_scale", scales({}, {1})}}),
              HasSubstr("layer x is packed and holds [4, 1], [2, 2] is needed"));
}

TEST_F(Fp8Test, AScaleWithoutItsWeightIsNotPartOfTheModel) {
  EXPECT_THAT(error({{"x.weight", e4m3()}, {"y.weight_scale", scales({}, {1})}}),
              HasSubstr("\"y.weight_scale\": is not part of this transformer"));
}

}  // namespace
}  // namespace inkstone
