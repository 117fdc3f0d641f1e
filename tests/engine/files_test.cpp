#include <nlohmann/json.hpp>

#include "engine/tiny_model.h"
#include "io/image.h"

namespace inkstone {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class FilesTest : public TinyModelTest {
 protected:
  /// A picture file with this metadata.
  fs::path described(const std::string& metadata) const {
    const fs::path path = at("picture.png");
    save_picture(path, {.width = 1, .height = 1, .rgb = {1, 2, 3}, .metadata = metadata});
    return path;
  }

  std::string like_error(const std::string& metadata) const {
    EngineOptions options = {.model = kTiny};
    return error_of([&] { request_like(described(metadata), options); });
  }
};

const json kMetadata = {
    {"prompt", "a"}, {"negative_prompt", " "}, {"seed", 1},       {"steps", 2},      {"cfg", 4.0},
    {"width", 64},   {"height", 64},           {"model", "tiny"}, {"device", "cpu"}, {"dtype", "stored"}};

json with(const std::string& field, const json& value) {
  json changed = kMetadata;
  changed[field] = value;
  return changed;
}

TEST_F(FilesTest, RequestLikeAPictureDrawsItAgain) {
  EngineOptions options = {.model = kTiny, .held_as = HeldAs::f32};
  Request request = small_request("a \"word\", 一个\n<|im_end|>");
  request.negative_prompt = "blau";
  request.seed = 0xfedcba9876543210;
  request.cfg = 2.3;
  request.width = 80;
  request.max_sequence_length = 11;
  const Picture picture = Engine::open(options).generate(request).pictures.front();
  for (const char* name : {"p.png", "p.jpg", "p.webp"}) {
    save_picture(at(name), picture);
    EngineOptions again = {.model = kTiny};
    const Request like = request_like(at(name), again);
    const Picture drawn = Engine::open(again).generate(like).pictures.front();
    EXPECT_EQ(drawn.rgb, picture.rgb) << name;
    EXPECT_EQ(drawn.metadata, picture.metadata) << name;
  }
}

TEST_F(FilesTest, RequestLikeRepeatsTheOnePictureOfGivenNoise) {
  const Tensor noise = host_tensor({2, 16, 8, 8}, DType::f32);
  std::ranges::fill(noise.rows(0, 1).span<float>(), 0.5f);
  std::ranges::fill(noise.rows(1, 2).span<float>(), -0.5f);
  write_safetensors(at("noise.safetensors"), {{"noise", noise}});
  Request request = small_request();
  request.noise = at("noise.safetensors");
  request.count = 2;
  EngineOptions options = {.model = kTiny};
  const Result result = Engine::open(options).generate(request);
  ASSERT_NE(result.pictures[0].rgb, result.pictures[1].rgb);
  for (const Picture& picture : result.pictures) {
    EXPECT_FALSE(json::parse(picture.metadata).contains("seed"));  // it would mean nothing
    save_picture(at("p.png"), picture);
    const Result again = Engine::open(options).generate(request_like(at("p.png"), options));
    ASSERT_EQ(again.pictures.size(), 1u);
    EXPECT_EQ(again.pictures[0].rgb, picture.rgb);
    EXPECT_EQ(again.pictures[0].metadata, picture.metadata);
  }
}

TEST_F(FilesTest, RequestLikeKnowsTheModel) {
  EngineOptions shipped;
  EXPECT_EQ(request_like(described(kMetadata.dump()), shipped).prompt, "a");
  const fs::path other = described(with("model", "Qwen-Image-2512").dump());
  EXPECT_THAT(error_of([&] { request_like(other, shipped); }), HasSubstr("field model is \"Qwen-Image-2512\""));
  EngineOptions named = {.model = "/models/Qwen-Image-2512"};
  EXPECT_EQ(request_like(other, named).steps, 2);
  const fs::path replaced = described(with("vae", "better.safetensors").dump());
  EXPECT_THAT(error_of([&] { request_like(replaced, shipped); }), HasSubstr("field vae is \"better.safetensors\""));
  shipped.vae = "better.safetensors";
  EXPECT_EQ(request_like(replaced, shipped).width, 64);
}

TEST_F(FilesTest, RequestLikeTakesArithmeticInEightBitsByItsName) {
  for (const auto& [name, arithmetic] : {std::pair{"int8", Arithmetic::int8},
                                         {"int8_all", Arithmetic::int8_all},
                                         {"fp8", Arithmetic::fp8},
                                         {"fp8_all", Arithmetic::fp8_all}}) {
    EngineOptions options = {.model = kTiny};
    request_like(described(with("arithmetic", name).dump()), options);
    EXPECT_EQ(options.arithmetic, arithmetic) << name;
  }
}

TEST_F(FilesTest, RequestLikeRefusesForeignMetadata) {
  EngineOptions options;
  EXPECT_THAT(error_of([&] { request_like(at("none.png"), options); }), HasSubstr("none.png"));
  EXPECT_THAT(error_of([&] { request_like(described(""), options); }),
              AllOf(HasSubstr("picture.png"), HasSubstr("does not say what made it")));
  EXPECT_THAT(like_error("[1]"), HasSubstr("picture.png"));
  EXPECT_THAT(like_error("{"), HasSubstr("picture.png: what it says of itself: not valid JSON"));
  for (const char* field : {"prompt", "seed", "steps", "cfg", "width", "height", "device", "dtype"}) {
    json incomplete = kMetadata;
    incomplete.erase(field);
    EXPECT_THAT(like_error(incomplete.dump()), HasSubstr(std::string("field ") + field)) << field;
    EXPECT_THAT(like_error(with(field, json::array()).dump()), HasSubstr(std::string("field ") + field)) << field;
  }
  EXPECT_THAT(like_error(with("seed", -1).dump()), HasSubstr("field seed is -1"));
  EXPECT_THAT(like_error(with("seed", 1.5).dump()), HasSubstr("field seed is 1.5"));
  for (const auto& [field, most] :
       {std::pair("steps", 1000), {"width", 16383}, {"height", 16383}, {"max_sequence_length", 1024}})
    for (const int value : {0, most + 1})
      EXPECT_THAT(
          like_error(with(field, value).dump()),
          HasSubstr(fmt::format("picture.png: field {} is {}, an integer from 1 to {} is needed", field, value, most)));
  for (const double cfg : {0.5, 1001.5})
    EXPECT_THAT(like_error(with("cfg", cfg).dump()),
                HasSubstr(fmt::format("field cfg is {}, a number from 1 to 1000 is needed", cfg)));
  EXPECT_THAT(like_error(with("text_encoder", "x").dump()),
              HasSubstr("the file or folder of that text encoder is needed"));
  EXPECT_THAT(like_error(with("device", "toaster").dump()), HasSubstr("field device is \"toaster\", cpu or reference"));
  EXPECT_THAT(like_error(with("noise", 3).dump()), HasSubstr("field noise is 3"));
  EXPECT_THAT(like_error(with("noise", "n.safetensors").dump()), HasSubstr("field index is missing"));
}

TEST_F(FilesTest, ChecksWhatCanBeWritten) {
  check_writable(at("new.png"));
  check_writable(at("new.JPEG"));
  check_writable("new.webp");
  check_writable(at("new.png"), 70000);
  EXPECT_THAT(error_of([&] { check_writable(at("new.webp"), 70000); }),
              AllOf(HasSubstr("new.webp: prompts of 70000 bytes"), HasSubstr(".png")));
  EXPECT_THAT(error_of([&] { check_writable(at("new.gif")); }), AllOf(HasSubstr("new.gif"), HasSubstr("webp")));
  EXPECT_THAT(error_of([&] { check_writable(at("no/new.png")); }), HasSubstr("No such file or directory"));
  fs::create_directory(at("folder.png"));
  EXPECT_THAT(error_of([&] { check_writable(at("folder.png")); }), HasSubstr("folder.png"));
  EXPECT_THAT(error_of([&] { check_writable("/proc/new.png"); }), HasSubstr("/proc"));
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_F(FilesTest, SavesEmbeddings) {
  const Embeddings embeddings = Engine::open({.model = kTiny}).encode({.prompt = "a cat"});
  EXPECT_EQ(embeddings.width, 192);
  save_embeddings(at("e.safetensors"), embeddings);
  const SafetensorsFile file = read_safetensors(at("e.safetensors"));
  ASSERT_EQ(file.tensors.size(), 1u);
  const Tensor& embeds = file.tensors.at("embeds").data;
  EXPECT_EQ(embeds.shape(), (Shape{embeddings.rows, 192}));
  EXPECT_EQ(values(embeds), embeddings.values);
}

TEST_F(FilesTest, TokenizesFromAnyPath) {
  const auto ids = TextTokenizer::open(kTiny).encode("a red circle");
  EXPECT_FALSE(ids.empty());
  EXPECT_EQ(TextTokenizer::open(kTiny / "tokenizer").encode("a red circle"), ids);
  EXPECT_EQ(TextTokenizer::open(kTiny / "tokenizer" / "tokenizer.json").encode("a red circle"), ids);
  EXPECT_EQ(TextTokenizer::open({}).encode("a red circle"), ids);
  const auto templated = TextTokenizer::open(kTiny).encode_with_template("a red circle");
  EXPECT_EQ(templated.size(), ids.size() + 34 + 5);
  EXPECT_THAT(error_of([&] { TextTokenizer::open(at("none")); }), HasSubstr("none"));
}

TEST_F(FilesTest, FindsTheModelThatShips) { EXPECT_EQ(fs::canonical(default_model()), fs::canonical(kTiny)); }

}  // namespace
}  // namespace inkstone
