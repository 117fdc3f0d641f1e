#include "io/gguf.h"

#include "io/files.h"
#include "io/gguf_writer.h"
#include "io/host_device.h"
#include "io/weight_loader.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ8 = 8, kQ4K = 12;

std::string zeros(size_t n) { return std::string(n, '\0'); }

/// Two rows of two blocks of q8_0: the scale 1, then 0, 1, 2, ...
std::string q8_rows() {
  std::string bytes;
  for (int block = 0; block < 4; ++block) {
    bytes += std::string("\0\x3c", 2);
    for (int i = 0; i < 32; ++i) bytes += static_cast<char>(32 * block + i - 64);
  }
  return bytes;
}

GgufWriter sound(uint32_t version = 3, uint64_t alignment = 32) {
  GgufWriter w(version, alignment);
  w.text("general.architecture", "qwen_image").u32("general.alignment", static_cast<uint32_t>(alignment));
  w.f32("some.number", 0.5f).texts("some.texts", {"a", "bc"}).i32s("some.numbers", {-1, 2});
  w.tensor("x.weight", kQ8, {2, 64}, q8_rows()).tensor("x.bias", counting({3}));
  return w.tensor("matrix", counting({2, 3}));
}

class GgufTest : public FolderTest {
 protected:
  GgufFile read(const std::string& bytes) const { return read_gguf(write("f.gguf", bytes)); }
  std::string error(const GgufWriter& w) const { return error(w.bytes()); }
  std::string error(const std::string& bytes) const {
    return error_of([&] { read(bytes); });
  }
};

TEST_F(GgufTest, ReadsBothVersionsAndAnyAlignment) {
  for (const uint32_t version : {2, 3})
    for (const uint64_t alignment : {1, 8, 32, 256}) {
      SCOPED_TRACE(fmt::format("version {}, alignment {}", version, alignment));
      const GgufFile file = read(sound(version, alignment).bytes());
      EXPECT_EQ(file.metadata["general.architecture"], "qwen_image");
      EXPECT_EQ(file.metadata["some.number"], 0.5);
      EXPECT_EQ(file.metadata["some.texts"], (std::vector<std::string>{"a", "bc"}));
      EXPECT_EQ(file.metadata["some.numbers"], (std::vector<int>{-1, 2}));
      const StoredTensor& packed = file.tensors.at("x.weight");
      EXPECT_EQ(packed.blocks, WeightFormat::q8_0);
      EXPECT_EQ(packed.data.shape(), (Shape{2, 68}));
      EXPECT_EQ(type_name(packed), "Q8_0");
      EXPECT_EQ(file.tensors.at("matrix").data.shape(), (Shape{2, 3}));
      EXPECT_EQ(values(file.tensors.at("matrix").data), values(counting({2, 3})));
    }
}

TEST_F(GgufTest, AFlattenedTensorGetsItsShapeBack) {
  GgufWriter w;
  w.i32s("comfy.gguf.orig_shape.c", {2, 1, 3}).tensor("c", counting({6}));
  EXPECT_EQ(read(w.bytes()).tensors.at("c").data.shape(), (Shape{2, 1, 3}));
  GgufWriter wrong;
  wrong.i32s("comfy.gguf.orig_shape.c", {2, 2}).tensor("c", counting({6}));
  EXPECT_THAT(error(wrong), HasSubstr("has sizes 6, but metadata comfy.gguf.orig_shape.c says 2, 2"));
}

TEST_F(GgufTest, MatricesStayPackedAndMapped) {
  const Checkpoint c = open_checkpoint(write("f.gguf", sound().bytes()), Component::transformer);
  HostDevice device;
  for (const HeldType held : {HeldType(), HeldType(DType::bf16), HeldType(DType::f32)}) {
    WeightLoader loader(c, device, held);
    const Weight w = loader.linear("x", 2, 64, Bias::absent).slabs[0].weight;
    EXPECT_EQ(w.format, held == DType::f32 ? WeightFormat::f32 : WeightFormat::q8_0);
    EXPECT_EQ(w.data.buffer() == c.find("x.weight")->data.buffer(), held != DType::f32);
    std::vector<float> all(128);
    dequantize_rows(w, 0, 2, all.data());
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<float>(i) - 64);
  }
  EXPECT_EQ(c.shape_of("x.weight"), (Shape{2, 64}));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device).linear("x", 4, 32, Bias::absent); }),
              HasSubstr("layer x is packed and holds [2, 64], [4, 32] is needed"));
  EXPECT_THAT(error_of([&] { WeightLoader(c, device).vector("x.weight", 128); }), HasSubstr("is Q8_0; F32"));
}

TEST_F(GgufTest, NamesOfLlamaAreThoseOfTransformers) {
  GgufWriter w;
  const std::vector<std::pair<const char*, const char*>> names = {
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"output.weight", "lm_head.weight"},
      {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
      {"blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"},
      {"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"},
      {"blk.1.attn_k.bias", "model.layers.1.self_attn.k_proj.bias"},
      {"blk.1.attn_v.bias", "model.layers.1.self_attn.v_proj.bias"},
      {"blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"},
      {"blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj.weight"},
      {"blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"},
      {"blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"},
  };
  for (const auto& [stored, canonical] : names) w.tensor(stored, counting({1}));
  w.tensor("rope_freqs.weight", counting({1}));
  const Checkpoint c = open_checkpoint(write("t.gguf", w.bytes()), Component::text_encoder);
  EXPECT_EQ(c.tensors.size(), names.size());
  for (const auto& [stored, canonical] : names) {
    ASSERT_NE(c.find(canonical), nullptr) << canonical;
    EXPECT_EQ(c.find(canonical)->name, stored);
  }
}

TEST_F(GgufTest, PrefixesAreThoseOfComfyUI) {
  GgufWriter w;
  w.tensor("model.diffusion_model.x.weight", kQ8, {2, 64}, q8_rows());
  const Checkpoint c = open_checkpoint(write("t.gguf", w.bytes()), Component::transformer);
  EXPECT_EQ(c.packed("x")->weight.format, WeightFormat::q8_0);
}

TEST_F(GgufTest, PartsOfAFileAreOne) {
  const auto part = [&](const char* file, const char* tensor, uint32_t parts) {
    GgufWriter w;
    w.text("general.architecture", "qwen_image").u32("split.count", parts).tensor(tensor, counting({2}));
    return write(file, w.bytes());
  };
  const auto open = [](const fs::path& path) { return open_checkpoint(path, Component::transformer); };
  const fs::path folder = part("a-00001-of-00002.gguf", "a", 2).parent_path();
  EXPECT_THAT(error_of([&] { open(folder); }), HasSubstr("is 1 of 2 parts"));
  const fs::path second = part("a-00002-of-00002.gguf", "b", 2);
  EXPECT_EQ(open(folder).tensors.size(), 2u);
  EXPECT_THAT(error_of([&] { open(second); }), AllOf(HasSubstr("is 1 of 2 parts"), HasSubstr("give the folder")));
  part("c.gguf", "c", 2);
  EXPECT_THAT(error_of([&] { open(folder); }), AllOf(HasSubstr("its parts; found"), HasSubstr("c.gguf")));
}

TEST_F(GgufTest, AFileMayEndNowhereEarlier) {
  const std::string whole = sound().bytes();
  ASSERT_NO_THROW(read(whole));
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_THAT(error(whole.substr(0, length)), HasSubstr("f.gguf")) << length;
}

TEST_F(GgufTest, OtherFilesAndVersionsAreRefused) {
  EXPECT_THAT(error("GGML and more"), HasSubstr("does not begin with GGUF"));
  EXPECT_THAT(error(GgufWriter(1)), HasSubstr("GGUF version 1; 2 and 3 work"));
  EXPECT_THAT(error(GgufWriter(0x03000000)), HasSubstr("is it big-endian?"));
}

TEST_F(GgufTest, BlockTypesThatItCannotReadAreNamedByNumber) {
  for (const uint32_t type : {4u, 9u, 16u, 39u, 4000000000u})
    EXPECT_THAT(error(GgufWriter().tensor("a", type, {1, 256}, zeros(512))),
                AllOf(HasSubstr("tensor \"a\""), HasSubstr(fmt::format("has type {};", type)), HasSubstr("Q4_K")));
}

TEST_F(GgufTest, RowsMustBeWholeBlocks) {
  EXPECT_THAT(error(GgufWriter().tensor("a", kQ4K, {4, 64}, zeros(144))),
              HasSubstr("tensor \"a\": is Q4_K with rows of 64 numbers; multiples of 256 are needed"));
  EXPECT_THAT(error(GgufWriter().tensor("a", kQ8, {2, 48}, zeros(102))), HasSubstr("multiples of 32"));
}

TEST_F(GgufTest, SizesThatLieAreRefused) {
  const auto sizes = [&](const std::vector<int64_t>& shape) {
    return error(GgufWriter().tensor("a", kF32, shape, zeros(64)));
  };
  EXPECT_THAT(sizes({0}), HasSubstr("has sizes 0"));
  EXPECT_THAT(sizes({-4}), HasSubstr("has sizes -4"));
  EXPECT_THAT(sizes({int64_t{1} << 40, int64_t{1} << 40}), HasSubstr("positive ones that fit a file"));
  EXPECT_THAT(sizes({1, 1, 1, 1, 16}), HasSubstr("has 5 axes"));
  EXPECT_THAT(sizes({}), HasSubstr("has 0 axes"));
  EXPECT_THAT(sizes({17}), HasSubstr("68 bytes from offset 0, but the file holds 64"));
  EXPECT_THAT(sizes({8}), HasSubstr("the last 32 bytes belong to no tensor"));
}

TEST_F(GgufTest, OffsetsThatLieAreRefused) {
  const auto at = [&](uint64_t offset) {
    return error(GgufWriter().tensor("a", kF32, {8}, zeros(32)).tensor_at("b", kF32, {8}, offset, zeros(64)));
  };
  EXPECT_THAT(at(0), HasSubstr("tensors \"a\" and \"b\" overlap"));
  EXPECT_THAT(at(64), HasSubstr("32 bytes before tensor \"b\" belong to no tensor"));
  EXPECT_THAT(at(33), HasSubstr("begins at offset 33, a multiple of 32"));
  EXPECT_THAT(at(UINT64_MAX - 31), HasSubstr("is it truncated?"));
}

TEST_F(GgufTest, CountsThatLieAreRefused) {
  std::string bytes = sound().bytes();
  const auto with = [&](size_t at, uint64_t value) {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &value, sizeof value);
    return error(changed);
  };
  EXPECT_THAT(with(8, UINT64_MAX), HasSubstr("tensors, more than"));
  EXPECT_THAT(with(16, uint64_t{1} << 40), HasSubstr("metadata entries, more than"));
  EXPECT_THAT(with(24, uint64_t{1} << 40), HasSubstr("a metadata key of 1099511627776 bytes"));
  EXPECT_THAT(with(24, 2000), HasSubstr("at most 1024 allowed"));
  EXPECT_THAT(with(24 + 8 + 20 + 4, uint64_t{1} << 62), HasSubstr("a metadata text of 4611686018427387904 bytes"));
}

TEST_F(GgufTest, MetadataThatLieAreRefused) {
  EXPECT_THAT(error(GgufWriter().raw("k", 13, "")), HasSubstr("metadata k has value type 13"));
  EXPECT_THAT(error(GgufWriter().raw("k", 9, zeros(4) + std::string("\xff\xff\xff\xff\xff\0\0\0", 8))),
              HasSubstr("metadata k is an array of 1099511627775"));
  EXPECT_THAT(error(GgufWriter().raw("k", 9, std::string("\x09\0\0\0\1\0\0\0\0\0\0\0", 12))),
              HasSubstr("arrays hold no arrays"));
  EXPECT_THAT(error(GgufWriter().u32("k", 1).u32("k", 2)), HasSubstr("metadata k is given twice"));
  EXPECT_THAT(error(GgufWriter().u32("k\n", 1)), HasSubstr("printable characters"));
  EXPECT_THAT(error(GgufWriter().u32("general.alignment", 24).tensor("a", counting({1}))), HasSubstr("a power of two"));
  EXPECT_THAT(error(GgufWriter().u32("general.alignment", 0).tensor("a", counting({1}))),
              HasSubstr("general.alignment"));
}

TEST_F(GgufTest, OneNameMayNotBeTwoTensors) {
  EXPECT_THAT(error(GgufWriter().tensor("a", counting({1})).tensor("a", counting({1}))),
              HasSubstr("tensor \"a\" is given twice"));
  fs::create_directories(at("m"));
  write_safetensors(at("m/0.safetensors"), {{"a", counting({1})}});
  write("m/1.safetensors", GgufWriter().tensor("a", counting({1})).bytes());
  EXPECT_THAT(error_of([&] { open_checkpoint(at("m"), Component::transformer); }),
              AllOf(HasSubstr("1.safetensors: tensor \"a\" is also in"), HasSubstr("0.safetensors")));
}

}  // namespace
}  // namespace inkstone
