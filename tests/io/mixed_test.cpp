// Matrices in the order of the cpu's kernels: what is held, and every lie of a file about them.
#include "core/mapped_file.h"
#include "io/files.h"
#include "io/host_device.h"
#include "io/weight_loader.h"
#include "ops/mixed_weights.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

constexpr int64_t kOut = 64, kIn = 400;

Tensor text(std::string_view words) {
  const Tensor t = host_tensor({static_cast<int64_t>(words.size())}, DType::u8);
  std::copy(words.begin(), words.end(), t.data<char>());
  return t;
}

/// Layer x, all of whose numbers are equal.
Tensors layer_of(float number, WeightFormat format = WeightFormat::affine8) {
  const Weight w = random_mixed(format, kOut, kIn, 1);
  std::ranges::fill(w.factors.span<float>(), 2.0f);
  const std::vector<float> numbers(static_cast<size_t>(kOut * kIn), number);
  quantize_mixed(numbers.data(), w);
  Tensors parts = {{"x.weight", w.data}, {"x.scales", w.scales}, {"x.factors", w.factors}};
  parts["x.order"] = text(w.offsets ? kMixedSmallDescription : kMixedDescription);
  if (w.offsets) parts["x.steps"] = w.offsets;
  return parts;
}

class MixedTest : public FolderTest {
 protected:
  Weight load(const Tensors& tensors, HeldType held = std::nullopt) {
    write_safetensors(at("f.safetensors"), tensors);
    const Checkpoint c = open_checkpoint(at("f.safetensors"), Component::transformer);
    WeightLoader loader(c, device_, held);
    const Linear x = loader.linear("x", kOut, kIn, Bias::absent);
    loader.finish();
    return x.slabs.front().weight;
  }
  std::string error_with(const std::string& name, const Tensor& tensor, WeightFormat format = WeightFormat::affine8) {
    Tensors tensors = layer_of(3, format);
    tensors[name] = tensor;
    return error_of([&] { load(tensors); });
  }

  HostDevice device_;
};

std::vector<float> numbers_of(const Weight& weight) {
  std::vector<float> all(static_cast<size_t>(weight.out * weight.in));
  dequantize_rows(weight, 0, weight.out, all.data());
  return all;
}

TEST_F(MixedTest, IsHeldWhereItIsMapped) {
  const Weight w = load(layer_of(3));
  EXPECT_TRUE(w.factors && !w.offsets);
  for (const Tensor& part : {w.data, w.scales, w.factors}) EXPECT_NE(file_of(part), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data.data<void>()) % 64, 0u) << "a step of codes is a line of the caches";
  for (const float number : numbers_of(w)) EXPECT_NEAR(number, 3, 0.03);
  const Checkpoint c = open_checkpoint(at("f.safetensors"), Component::transformer);
  EXPECT_TRUE(c.has_mixed());
  EXPECT_EQ(c.shape_of("x.weight"), (Shape{kOut, kIn}));
}

TEST_F(MixedTest, Of4BitsIsHeldWhereItIsMapped) {
  const Weight w = load(layer_of(3, WeightFormat::affine4));
  EXPECT_EQ(w.format, WeightFormat::affine4);
  for (const Tensor& part : {w.data, w.scales, w.factors, w.offsets}) EXPECT_NE(file_of(part), nullptr);
  for (const float number : numbers_of(w)) EXPECT_NEAR(number, 3, 0.4);
  const Checkpoint c = open_checkpoint(at("f.safetensors"), Component::transformer);
  EXPECT_TRUE(c.has_mixed());
  EXPECT_EQ(c.shape_of("x.weight"), (Shape{kOut, kIn}));
  EXPECT_EQ(numbers_of(load(layer_of(3, WeightFormat::affine4), DType::f32)), numbers_of(w));
}

TEST_F(MixedTest, IsUnpackedWhereAnotherTypeIsAskedFor) {
  const std::vector<float> numbers = numbers_of(load(layer_of(3)));
  const Weight wide = load(layer_of(3), DType::f32), narrow = load(layer_of(3), DType::bf16);
  EXPECT_EQ(wide.format, WeightFormat::f32);
  EXPECT_EQ(numbers_of(wide), numbers);
  EXPECT_EQ(narrow.format, WeightFormat::bf16);
  EXPECT_EQ(numbers_of(narrow)[5], to_float(to_bf16(numbers[5])));
}

TEST_F(MixedTest, MissingPartsAreNamed) {
  for (const std::string part : {"x.scales", "x.order"}) {
    Tensors tensors = layer_of(3);
    tensors.erase(part);
    EXPECT_THAT(error_of([&] { load(tensors); }), AllOf(HasSubstr("\"x.weight\""), HasSubstr(part + " is missing")));
  }
  Tensors small = layer_of(3, WeightFormat::affine4);
  small.erase("x.steps");
  EXPECT_THAT(error_of([&] { load(small); }), HasSubstr("x.steps is missing"));
  Tensors tensors = layer_of(3);
  tensors.erase("x.factors");
  tensors.emplace("y.factors", text("keeps the file one of ours"));
  EXPECT_THAT(error_of([&] { load(tensors); }), HasSubstr("x.offsets is missing"));
}

TEST_F(MixedTest, LiesAreNamed) {
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, kIn}, DType::i8)), HasSubstr("must be U8"));
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut - 8, kIn}, DType::u8)), HasSubstr("outputs in 16s"));
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, kIn - 2}, DType::u8)), HasSubstr("inputs in 4s"));
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, kIn, 1}, DType::u8)), HasSubstr("found U8 [64, 400, 1]"));
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, 2 * kIn}, DType::u8)),
              AllOf(HasSubstr("\"x.scales\""), HasSubstr("F32 [3, 64] is needed")));
  EXPECT_THAT(error_with("x.scales", host_tensor({kOut, 2}, DType::f32)), HasSubstr("F32 [2, 64] is needed"));
  EXPECT_THAT(error_with("x.scales", host_tensor({2, kOut}, DType::bf16)), HasSubstr("is BF16 [2, 64]"));
  EXPECT_THAT(error_with("x.factors", host_tensor({kIn - 1}, DType::f32)), HasSubstr("F32 [400] is needed"));
  EXPECT_THAT(error_with("x.order", text("another order")), HasSubstr("U8 [64] is needed"));
  std::string other(kMixedDescription);
  other[10] = '9';
  EXPECT_THAT(error_with("x.order", text(other)), AllOf(HasSubstr("lies as"), HasSubstr("only")));
}

TEST_F(MixedTest, LiesOf4BitsAreNamed) {
  constexpr auto k4Bits = WeightFormat::affine4;
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, kIn / 2 - 2}, DType::u8), k4Bits), HasSubstr("inputs in 8s"));
  EXPECT_THAT(error_with("x.weight", host_tensor({kOut, kIn}, DType::u8), k4Bits), HasSubstr("F32 [3, 64] is needed"));
  EXPECT_THAT(error_with("x.steps", host_tensor({13, kOut}, DType::u8), k4Bits), HasSubstr("U8 [14, 64] is needed"));
  EXPECT_THAT(error_with("x.steps", host_tensor({14, kOut}, DType::i8), k4Bits), HasSubstr("is I8 [14, 64]"));
  EXPECT_THAT(error_with("x.order", text(kMixedDescription), k4Bits), HasSubstr("F32 [1, 64] is needed"));
  EXPECT_THAT(error_with("x.order", text(kMixedSmallDescription)), HasSubstr("F32 [3, 64] is needed"));
}

TEST_F(MixedTest, CutFilesAreRefused) {
  write_safetensors(at("f.safetensors"), layer_of(3));
  const std::string whole = read(at("f.safetensors"));
  for (const size_t length : {whole.size() - 1, whole.size() / 2, size_t{100}}) {
    write("cut.safetensors", std::string_view(whole).substr(0, length));
    EXPECT_THAT(error_of([&] { open_checkpoint(at("cut.safetensors"), Component::transformer); }),
                HasSubstr("cut.safetensors"));
  }
}

}  // namespace
}  // namespace inkstone
