// The same model in every kind of file: what the engine draws does not depend on how its weights are stored.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/tiny_model.h"
#include "io/checkpoint.h"
#include "io/gguf_writer.h"
#include "io/json.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

const fs::path kData = INKSTONE_TEST_DATA;

/// A kernel (out, kernel..., in) as (out, in, kernel...).
Tensor channels_first(const Tensor& t) {
  const int64_t out = t.dim(0), in = t.dim(-1), pixels = t.count() / (out * in);
  std::vector<int64_t> dims = {out, in};
  for (int i = 1; i + 1 < t.shape().rank(); ++i) dims.push_back(t.dim(i));
  const Tensor turned = host_tensor(Shape(dims), DType::f32);
  for (int64_t i = 0; i < t.count(); ++i) {
    const int64_t o = i / (pixels * in), pixel = i / in % pixels, channel = i % in;
    turned.data<float>()[(o * in + channel) * pixels + pixel] = t.data<float>()[i];
  }
  return turned;
}

/// A component's tensors by diffusers' names, dense and in f32.
Tensors dense_tensors(const fs::path& model, Component component) {
  const Checkpoint c = open_checkpoint(model / name_of(component), component);
  Tensors all;
  std::set<std::string> parts;
  for (const auto& [name, stored] : c.tensors) {
    const auto packed = name.ends_with(kWeightSuffix) ? c.packed(name.substr(0, name.size() - 7)) : std::nullopt;
    if (!packed) continue;
    const Tensor dense = host_tensor({packed->weight.out, packed->weight.in}, DType::f32);
    dequantize_rows(packed->weight, 0, packed->weight.out, dense.data<float>());
    all[name] = dense;
    parts.insert(packed->parts.begin(), packed->parts.end());
  }
  for (const auto& [name, stored] : c.tensors) {
    if (parts.contains(name)) continue;
    const Tensor wide = to_f32(stored.data);
    all[name] = c.scheme->channels_last && wide.shape().rank() > 2 ? channels_first(wide) : wide;
  }
  return all;
}

/// A component's tensors as its file has them, under `prefix`.
Tensors prefixed(const fs::path& model, Component component, const std::string& prefix) {
  Tensors all;
  for (const auto& [name, stored] : open_checkpoint(model / name_of(component), component).tensors)
    all[prefix + name] = stored.data;
  return all;
}

/// Blocks of q8_0: a scale as a half, cut off, and 32 whole numbers.
std::string as_q8_0(const Tensor& matrix) {
  constexpr int64_t kBlock = 32;
  std::string bytes;
  for (int64_t begin = 0; begin < matrix.count(); begin += kBlock) {
    const float* x = matrix.data<const float>() + begin;
    float most = 0x1p-7f;  // the scale stays a normal half
    for (int64_t i = 0; i < kBlock; ++i) most = std::max(most, std::abs(x[i]));
    const uint32_t bits = std::bit_cast<uint32_t>(most / 126);
    const uint32_t half = (((bits >> 23) - 127 + 15) << 10) | ((bits >> 13) & 0x3ff);
    const float scale = std::bit_cast<float>(bits & ~0x1fffu);
    bytes += {static_cast<char>(half & 255), static_cast<char>(half >> 8)};
    for (int64_t i = 0; i < kBlock; ++i) bytes += static_cast<char>(std::lround(x[i] / scale));
  }
  return bytes;
}

std::string replaced(std::string name, std::string_view from, std::string_view to) {
  if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

std::string llama_name(std::string name) {
  for (const auto& [from, to] :
       std::initializer_list<std::pair<const char*, const char*>>{{"model.embed_tokens", "token_embd"},
                                                                  {"model.norm", "output_norm"},
                                                                  {"model.layers", "blk"},
                                                                  {"input_layernorm", "attn_norm"},
                                                                  {"post_attention_layernorm", "ffn_norm"},
                                                                  {"self_attn.q_proj", "attn_q"},
                                                                  {"self_attn.k_proj", "attn_k"},
                                                                  {"self_attn.v_proj", "attn_v"},
                                                                  {"self_attn.o_proj", "attn_output"},
                                                                  {"mlp.gate_proj", "ffn_gate"},
                                                                  {"mlp.up_proj", "ffn_up"},
                                                                  {"mlp.down_proj", "ffn_down"}})
    name = replaced(std::move(name), from, to);
  return name;
}

void add_tokenizer(GgufWriter& w, const fs::path& folder) {
  const json file = JsonFile::read(folder / "tokenizer.json").object();
  std::map<int, std::pair<std::string, int>> tokens;  // id: text and type
  for (const auto& [text, id] : file["model"]["vocab"].items()) tokens[id] = {text, 1};
  for (const json& added : file["added_tokens"]) tokens[added["id"]] = {added["content"], 3};
  std::vector<std::string> texts, merges;
  std::vector<int32_t> types;
  for (const auto& [id, token] : tokens) {
    texts.push_back(token.first);
    types.push_back(token.second);
  }
  for (const json& merge : file["model"]["merges"])
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  w.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "qwen2");
  w.texts("tokenizer.ggml.tokens", texts).i32s("tokenizer.ggml.token_type", types);
  w.texts("tokenizer.ggml.merges", merges);
}

class FormatsTest : public TinyModelTest {
 protected:
  fs::path write_transformer(const fs::path& model, const std::string& architecture = "qwen_image") const {
    GgufWriter w;
    w.text("general.architecture", architecture);
    for (const auto& [name, tensor] : dense_tensors(model, Component::transformer)) w.tensor(name, tensor);
    return write("transformer.gguf", w.bytes());
  }

  static void add_sizes(GgufWriter& w) {
    w.u32("qwen2vl.block_count", 2).u32("qwen2vl.embedding_length", 64).u32("qwen2vl.feed_forward_length", 128);
    w.u32("qwen2vl.attention.head_count", 4).u32("qwen2vl.attention.head_count_kv", 2);
    w.f32("qwen2vl.attention.layer_norm_rms_epsilon", 1e-6f).f32("qwen2vl.rope.freq_base", 1e6f);
  }

  /// random_mlx's text encoder, as llama.cpp has one.
  fs::path write_text_encoder(const std::string& architecture = "qwen2vl",
                              const std::function<void(GgufWriter&)>& add = add_sizes) const {
    GgufWriter w;
    w.text("general.architecture", architecture);
    add(w);
    add_tokenizer(w, kTiny / "tokenizer");
    for (const auto& [name, tensor] : dense_tensors(kData / "random_mlx", Component::text_encoder))
      if (!name.starts_with("visual.")) w.tensor(llama_name(name), tensor);
    return write("encoder.gguf", w.bytes());
  }

  fs::path write_vae() const {
    Tensors tensors;
    for (const auto& [name, tensor] : dense_tensors(kData / "random_mlx", Component::vae))
      tensors["vae." + name] = tensor;
    write_safetensors(at("vae.safetensors"), tensors);
    return at("vae.safetensors");
  }

  /// tiny's transformer with matrices in q8_0 where their rows allow it.
  fs::path write_packed_transformer() const {
    constexpr uint32_t kQ8 = 8;
    GgufWriter w;
    w.text("general.architecture", "qwen_image");
    for (const auto& [name, t] : dense_tensors(kTiny, Component::transformer)) {
      if (t.shape().rank() == 2 && t.dim(1) % 32 == 0)
        w.tensor(name, kQ8, {t.dim(0), t.dim(1)}, as_q8_0(t));
      else
        w.tensor(name, t);
    }
    return write("q8.gguf", w.bytes());
  }

  Tensor latents(const EngineOptions& options) const {
    Engine engine = Engine::open(options);
    Request request = small_request();
    request.save_latents = at("latents.safetensors");
    notes_ = engine.generate(request).notes;
    const Tensor mapped = read_safetensors(request.save_latents).tensors.at("latents").data;
    return to_f32(mapped);
  }

  mutable std::vector<std::string> notes_;  ///< of the last run
};

// The same numbers in another format may be summed in other pieces.
constexpr double kSameNumbers = 1e-5;

TEST_F(FormatsTest, ComfyFilesOfEachComponentDrawTheSame) {
  EngineOptions options = {.model = kTiny};
  const Tensor expected = latents(options);
  const auto file = [&](Component component, const std::string& prefix) {
    const fs::path path = at(std::string(name_of(component)) + ".safetensors");
    write_safetensors(path, prefixed(kTiny, component, prefix));
    return path;
  };
  options.transformer = file(Component::transformer, "model.diffusion_model.");
  options.text_encoder = file(Component::text_encoder, "text_encoders.qwen25_7b.transformer.");
  options.vae = file(Component::vae, "first_stage_model.");
  EXPECT_EQ(values(latents(options)), values(expected)) << "config.json of all three is borrowed from the model";
}

TEST_F(FormatsTest, ThreeFilesAreAModel) {
  const fs::path mlx = kData / "random_mlx";
  const Tensor expected = latents({.model = mlx, .tokenizer = kTiny / "tokenizer"});
  const EngineOptions files = {
      .transformer = write_transformer(mlx), .text_encoder = write_text_encoder(), .vae = write_vae()};
  EXPECT_LE(latents_error(latents(files), expected), kSameNumbers);
  EXPECT_THAT(notes_, ::testing::Contains(HasSubstr("Qwen-Image-2512's schedule is used")));
  const TextTokenizer folder = TextTokenizer::open(kTiny), gguf = TextTokenizer::open(files.text_encoder);
  for (const char* text : {"a red circle", "<|im_end|> 12\n\n é", "一个穿着T恤"})
    EXPECT_EQ(gguf.encode(text), folder.encode(text)) << text;
}

TEST_F(FormatsTest, ATextEncoderThatTellsNoSizesBorrowsTheModels) {
  EngineOptions options = {.model = kData / "random_mlx", .tokenizer = kTiny / "tokenizer"};
  const Tensor expected = latents(options);
  options.text_encoder = write_text_encoder("qwen2vl", [](GgufWriter&) {});
  EXPECT_LE(latents_error(latents(options), expected), kSameNumbers);
  options.text_encoder = write_text_encoder("qwen2vl", [](GgufWriter& w) { w.u32("qwen2vl.block_count", 2); });
  EXPECT_THAT(open_error(options), HasSubstr("qwen2vl.embedding_length is missing"));
}

TEST_F(FormatsTest, AComponentAloneBorrowsFromTheShippedModel) {
  write_safetensors(at("alone.safetensors"), prefixed(kTiny, Component::transformer, ""));
  const Tensor expected = latents({.model = kTiny});
  EXPECT_EQ(values(latents({.transformer = at("alone.safetensors")})), values(expected));
}

TEST_F(FormatsTest, TheShippedModelsPartsStandBesideNoneOfAnotherSize) {
  const fs::path other = kData / "random_mlx";
  EngineOptions two = {.text_encoder = kTiny / "text_encoder", .tokenizer = kTiny / "tokenizer"};
  two.transformer = other / "transformer";
  EXPECT_THAT(open_error(two), AllOf(HasSubstr("random_mlx/transformer: is of width"), HasSubstr("the shipped model's"),
                                     HasSubstr("give a model, or transformer, text_encoder and vae")));
  two = {.text_encoder = other / "text_encoder", .tokenizer = kTiny / "tokenizer"};
  EXPECT_THAT(open_error(two), HasSubstr("random_mlx/text_encoder: is of width"));
  two.model = other;
  two.transformer = write_transformer(other);
  EXPECT_NO_THROW(Engine::open(two)) << "a model that is given says that it goes with them";
}

TEST_F(FormatsTest, AFolderWithoutTokenizerSaysHowToGiveOne) {
  EXPECT_THAT(open_error({.model = kData / "random_mlx"}),
              HasSubstr("random_mlx/tokenizer: holds no tokenizer; give a folder with tokenizer.json or merges.txt"));
}

TEST_F(FormatsTest, OneFileIsAModel) {
  const fs::path mlx = kData / "random_mlx";
  const EngineOptions parts = {.text_encoder = mlx / "text_encoder", .tokenizer = kTiny / "tokenizer"};
  EngineOptions folder = parts, file = parts;
  folder.model = mlx;
  Tensors all;
  for (const auto& [name, tensor] : dense_tensors(mlx, Component::transformer))
    all["model.diffusion_model." + name] = tensor;
  for (const auto& [name, tensor] : dense_tensors(mlx, Component::vae)) all["vae." + name] = tensor;
  for (const auto& [name, tensor] : dense_tensors(mlx, Component::text_encoder))
    all["text_encoders.llm." + name] = tensor;
  write_safetensors(at("all.safetensors"), all);
  file.model = at("all.safetensors");
  EXPECT_LE(latents_error(latents(file), latents(folder)), kSameNumbers);

  const json found = json::parse(inspect_json(file.model));
  ASSERT_EQ(found.at("components").size(), 3u);
  EXPECT_EQ(found.at("components")[1].at("component"), "text_encoder");

  file.tokenizer.clear();
  EXPECT_THAT(open_error(file), AllOf(HasSubstr("text_encoder"), HasSubstr("holds no tokenizer; give a folder with")));
}

TEST_F(FormatsTest, BlocksOfGgufStayPackedAndDrawTheSame) {
  EngineOptions options = {.model = kTiny};
  const Tensor plain = latents(options);
  options.transformer = write_packed_transformer();
  const Tensor packed = latents(options);
  options.held_as = HeldAs::f32;
  EXPECT_LE(latents_error(packed, latents(options)), kSameNumbers);
  EXPECT_LE(latents_error(packed, plain), 0.06) << "8 bits are near";

  const json found = json::parse(inspect_json(options.transformer)).at("components")[0];
  EXPECT_EQ(found.at("component"), "transformer");
  EXPECT_EQ(found.at("format"), "q8_0");
  EXPECT_EQ(found.at("parameters"), 10'887'552);
}

TEST_F(FormatsTest, InspectTellsOfGgufTextEncoders) {
  const json found = json::parse(inspect_json(write_text_encoder())).at("components")[0];
  EXPECT_EQ(found.at("component"), "text_encoder");
  EXPECT_EQ(found.at("scheme"), "llama.cpp");
  EXPECT_EQ(found.at("missing"), json::array());
  EXPECT_EQ(found.at("surplus"), json::array());
  EXPECT_EQ(found.at("config").at("kv_heads"), 2);
}

TEST_F(FormatsTest, OtherArchitecturesAreRefused) {
  const fs::path mlx = kData / "random_mlx";
  EXPECT_THAT(open_error({.model = mlx, .text_encoder = write_text_encoder("llama"), .tokenizer = kTiny / "tokenizer"}),
              AllOf(HasSubstr("encoder.gguf: field general.architecture is \"llama\""), HasSubstr("qwen2vl")));
  EXPECT_THAT(
      open_error({.model = mlx, .transformer = write_transformer(mlx, "flux"), .tokenizer = kTiny / "tokenizer"}),
      AllOf(HasSubstr("general.architecture is \"flux\""), HasSubstr("qwen_image")));
}

TEST_F(FormatsTest, ATokenizerThatIsNotQwensIsRefused) {
  const auto refused = [&](const std::string& model, const std::string& splitting) {
    GgufWriter w;
    w.text("tokenizer.ggml.model", model).text("tokenizer.ggml.pre", splitting).tensor("a", counting({1}));
    return error_of([&] { TextTokenizer::open(write("t.gguf", w.bytes())); });
  };
  EXPECT_THAT(refused("llama", "qwen2"), HasSubstr("tokenizer.ggml.model is \"llama\""));
  EXPECT_THAT(refused("gpt2", "smollm"), HasSubstr("tokenizer.ggml.pre is \"smollm\""));
  EXPECT_THAT(refused("gpt2", "qwen2"), HasSubstr("tokenizer.ggml.tokens is missing"));
  EXPECT_THAT(error_of([&] { TextTokenizer::open(write_transformer(kTiny)); }),
              AllOf(HasSubstr("holds no tokenizer"), HasSubstr("give a folder with tokenizer.json or merges.txt")));
}

}  // namespace
}  // namespace inkstone
