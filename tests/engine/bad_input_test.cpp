// Every fault of the user and of the world that the engine can meet: one line that names what, the value and the cure.
#include <cmath>
#include <limits>

#include "engine/bound_memory.h"
#include "engine/tiny_model.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class BadRequestTest : public TinyModelTest {
 protected:
  std::string generate_error(const Request& request) {
    return error_of([&] { engine_.generate(request); });
  }

  std::string noise_error(const std::map<std::string, Tensor>& tensors) {
    Request request = small_request();
    request.noise = at("noise.safetensors");
    write_safetensors(request.noise, tensors);
    return generate_error(request);
  }

  Engine engine_ = Engine::open({.model = kTiny});
};

TEST_F(BadRequestTest, Sizes) {
  Request request = small_request();
  for (const int64_t width : {-64, 0, 8, 100}) {
    request.width = width;
    EXPECT_THAT(generate_error(request),
                AllOf(HasSubstr("width " + std::to_string(width)), HasSubstr("multiples of 16")));
  }
  request.width = 112;
  request.height = 65;
  EXPECT_EQ(generate_error(request), "height 65: this model draws multiples of 16 pixels; the nearest are 64 and 80");
  request.height = int64_t{1} << 40;
  EXPECT_THAT(generate_error(request), HasSubstr("1099511627776"));
}

TEST_F(BadRequestTest, Steps) {
  Request request = small_request();
  for (const int64_t steps : {-1, 0, 1001}) {
    request.steps = steps;
    EXPECT_EQ(generate_error(request), fmt::format("steps {}: 1 to 1000 work", steps));
  }
  request.steps = 1;
  EXPECT_EQ(generate_error(request),
            "steps 1: at least 2 are needed by this model's scheduler, whose last step starts at sigma 0.02 "
            "(shift_terminal)");
  request.preset = Preset::lightning_4;  // a schedule without it
  EXPECT_EQ(engine_.generate(request).pictures.size(), 1u);
}

TEST_F(BadRequestTest, Cfg) {
  Request request = small_request();
  for (const double cfg : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e300, 1000.5, 0.5}) {
    request.cfg = cfg;
    EXPECT_EQ(generate_error(request), fmt::format("cfg {}: 1 to 1000 work", cfg));
  }
}

TEST_F(BadRequestTest, Counts) {
  Request request = small_request();
  for (const int64_t count : {-1, 0, 1025}) {
    request.count = count;
    EXPECT_EQ(generate_error(request), fmt::format("count {}: 1 to 1024 work", count));
  }
}

TEST_F(BadRequestTest, SeedsThatWouldBeginAgain) {
  Request request = small_request();
  request.seed = UINT64_MAX - 1;
  request.count = 3;
  EXPECT_EQ(generate_error(request),
            "seed 18446744073709551614: picture i has seed + i; with count 3 the largest seed is 18446744073709551613");
  request.count = 2;
  EXPECT_EQ(engine_.generate(request).pictures.back().seed, UINT64_MAX);
}

TEST_F(BadRequestTest, Prompts) {
  Request request = small_request(std::string(1020, '7'));  // with the template's end 1025 rows
  EXPECT_THAT(generate_error(request), AllOf(StartsWith("prompt: "), HasSubstr("1025"), HasSubstr("1024")));
  request.prompt = "a red circle";
  request.negative_prompt = std::string(2000, '7');
  EXPECT_THAT(generate_error(request), AllOf(StartsWith("negative-prompt: "), HasSubstr("2005"), HasSubstr("1024")));
  request.negative_prompt = "bro\xffken";
  EXPECT_THAT(generate_error(request), AllOf(StartsWith("negative-prompt: "), HasSubstr("UTF-8"), HasSubstr("3")));
  request.cfg = 1;  // without effect, and wrong all the same
  EXPECT_THAT(generate_error(request), AllOf(StartsWith("negative-prompt: "), HasSubstr("UTF-8"), HasSubstr("3")));
  request.cfg.reset();
  request.prompt = std::string(1019, '7');  // 1024 rows
  request.negative_prompt.reset();
  EXPECT_EQ(engine_.generate(request).notes.size(), 0u);
  for (const int64_t length : {-1, 0, 1025}) {
    request.max_sequence_length = length;
    EXPECT_EQ(generate_error(request), fmt::format("max-sequence-length {}: 1 to 1024 work", length));
  }
  EXPECT_THAT(error_of([&] { engine_.encode({.prompt = std::string(1020, '7')}); }), HasSubstr("1025"));
}

TEST_F(BadRequestTest, Noise) {
  Request request = small_request();
  request.noise = at("none.safetensors");
  EXPECT_THAT(generate_error(request), HasSubstr("none.safetensors"));

  Tensor noise = host_tensor({1, 16, 8, 8}, DType::f32);
  std::ranges::fill(noise.span<float>(), 1.0f);
  const std::string file = at("noise.safetensors").string();
  EXPECT_EQ(noise_error({{"latents", noise}}),
            file + ": holds no tensor \"noise\", F32 " + noise.shape().text() + "; it holds \"latents\"");
  EXPECT_EQ(noise_error({{"noise", noise.reshape({1, 8, 16, 8})}}),
            file + ": tensor \"noise\" is F32 [1, 8, 16, 8], F32 [1, 16, 8, 8] is needed");
  EXPECT_EQ(noise_error({{"noise", in_bf16(noise)}}),
            file + ": tensor \"noise\" is BF16 [1, 16, 8, 8], F32 [1, 16, 8, 8] is needed");
  noise.data<float>()[64 + 8 + 3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(noise_error({{"noise", noise}}),
            file + ": tensor \"noise\" holds nan at [0, 1, 1, 3], finite numbers are needed");
  noise.data<float>()[0] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(noise_error({{"noise", noise}}), HasSubstr("holds inf at [0, 0, 0, 0]"));

  const Tensor three = host_tensor({3, 16, 8, 8}, DType::f32);
  std::ranges::fill(three.span<float>(), 1.0f);
  EXPECT_EQ(noise_error({{"noise", three}}),
            file + ": tensor \"noise\" is F32 [3, 16, 8, 8], F32 [1, 16, 8, 8] is needed");
  request.noise = file;
  request.noise_index = 3;
  EXPECT_EQ(generate_error(request),
            file + ": tensor \"noise\" is [3, 16, 8, 8], but picture 3 of it (from 0) is wanted");
  request.noise_index = 2;
  request.count = 2;
  EXPECT_EQ(generate_error(request), "count 2: 1 works with one picture of a noise file");
  request.count = 1;
  const Picture third = engine_.generate(request).pictures.at(0);
  EXPECT_EQ(third.seed, 0u);
  EXPECT_THAT(third.metadata, AllOf(HasSubstr("\"index\":2"), Not(HasSubstr("seed"))));
}

TEST_F(BadRequestTest, UnwritableLatents) {
  Request request = small_request();
  bool worked = false;
  request.progress = [&](const Progress& p) { worked |= p.stage != Stage::load; };
  request.save_latents = at("no/such/folder/latents.safetensors");
  EXPECT_THAT(generate_error(request), AllOf(HasSubstr("latents.safetensors"), HasSubstr("No such file or directory")));
  request.save_latents = folder_;
  EXPECT_THAT(generate_error(request), HasSubstr("is not a regular file"));
  request.save_latents = "/proc/latents.safetensors";
  EXPECT_THAT(generate_error(request), HasSubstr("/proc"));
  EXPECT_FALSE(worked);
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(BadRequestTest, TooLittleMemory) {
  INKSTONE_BOUND_MEMORY();
  constexpr size_t kMargin = size_t{4} << 20;
  const size_t needed = Engine::open({.model = kTiny}).plan(small_request()).needed_bytes;
  Engine small = Engine::open({.model = kTiny, .memory_limit = needed + kMargin});
  const Request request = {.prompt = "a red circle", .steps = 2, .width = 512, .height = 512};
  EXPECT_THAT(error_of([&] { small.generate(request); }),
              AllOf(StartsWith("size 512x512: "), HasSubstr("MiB of memory"), HasSubstr("MiB are available"),
                    HasSubstr("would do")));
  EXPECT_EQ(small.generate(small_request()).pictures.size(), 1u);
  Engine wide = Engine::open({.model = kTiny, .held_as = HeldAs::f32, .memory_limit = needed + kMargin});
  EXPECT_THAT(error_of([&] { wide.generate(small_request()); }),
              AllOf(HasSubstr("MiB are available"), HasSubstr("or weights used as they are stored")));
}

class BadModelTest : public TinyModelTest {};

TEST_F(BadModelTest, Folder) {
  EXPECT_THAT(open_error({.model = at("none")}), AllOf(HasSubstr("none"), HasSubstr("no such folder")));
  EXPECT_THAT(open_error({.model = folder_}), HasSubstr("is not a model's folder"));
  EXPECT_THAT(open_error({.model = kTiny / "model_index.json"}),
              HasSubstr("model_index.json: is neither a safetensors nor a GGUF file, one of which is needed"));
}

TEST_F(BadModelTest, Index) {
  const fs::path model = linked_model();
  fs::remove(model / "model_index.json");
  write("model/model_index.json", R"({"_class_name": "FluxPipeline"})");
  EXPECT_THAT(open_error({.model = model}), HasSubstr("_class_name is \"FluxPipeline\", QwenImagePipeline is needed"));
  write("model/model_index.json", R"({"_class_name": "QwenImagePipeline", "vae": ["diffusers", "AutoencoderKL"]})");
  EXPECT_THAT(open_error({.model = model}), AllOf(HasSubstr("field vae"), HasSubstr("AutoencoderKLQwenImage")));
  write("model/model_index.json", R"({"_class_name": "QwenImagePipeline", "scheduler": [null, null]})");
  EXPECT_THAT(open_error({.model = model}), HasSubstr("field scheduler is [null,null]"));
  write("model/model_index.json", "{");
  EXPECT_THAT(open_error({.model = model}), HasSubstr("not valid JSON"));
  fs::remove(model / "model_index.json");  // a folder of mflux has none
  EXPECT_EQ(Engine::open({.model = model}).generate(small_request()).pictures.size(), 1u);
}

TEST_F(BadModelTest, MissingComponents) {
  for (const char* part : {"transformer", "text_encoder", "vae", "tokenizer"}) {
    const fs::path model = linked_model();
    fs::remove(model / part);
    EXPECT_THAT(open_error({.model = model}), HasSubstr((model / part).string())) << part;
    fs::remove_all(model);
  }
}

TEST_F(BadModelTest, ReplacedComponentsAreUsedAndMustExist) {
  const fs::path model = linked_model();
  fs::remove(model / "vae");
  EngineOptions options = {.model = model, .vae = kTiny / "vae" / "diffusion_pytorch_model.safetensors"};
  EXPECT_EQ(Engine::open(options).generate(small_request()).pictures.size(), 1u);
  options.vae = at("other-vae");
  EXPECT_THAT(open_error(options), HasSubstr("other-vae"));
}

TEST_F(BadModelTest, ComponentsThatDoNotFit) {
  const fs::path model = linked_model();
  const fs::path config = own(model, "text_encoder") / "config.json";
  std::string text = read(config);
  const std::string width = "\"hidden_size\": 192";
  ASSERT_NE(text.find(width), std::string::npos);
  write("model/text_encoder/config.json", text.replace(text.find(width), width.size(), "\"hidden_size\": 384"));
  EXPECT_THAT(open_error({.model = model}), AllOf(HasSubstr("reads text of width 192"), HasSubstr("384")));
}

TEST_F(BadModelTest, SurplusMissingAndMisshapenTensors) {
  const fs::path model = linked_model();
  const fs::path vae = own(model, "vae");
  const auto error_after = [&](const std::function<void(std::map<std::string, Tensor>&)>& change) {
    change_tensors(vae, change);
    Engine engine = Engine::open({.model = model});
    bool worked = false;
    Request request = small_request();
    request.progress = [&](const Progress& p) { worked |= p.stage != Stage::load; };
    const std::string error = error_of([&] { engine.generate(request); });
    EXPECT_FALSE(worked) << "the decoder's faults must be found before the sampler has worked";
    return error;
  };
  Tensor kept;
  EXPECT_THAT(error_after([&](auto& tensors) {
                tensors["surprise.weight"] = counting({2, 2});
              }),
              AllOf(HasSubstr("\"surprise.weight\""), HasSubstr("not part of this vae")));
  EXPECT_THAT(error_after([&](auto& tensors) {
                tensors.erase("surprise.weight");
                kept = tensors.at("decoder.conv_out.bias");
                tensors.erase("decoder.conv_out.bias");
              }),
              AllOf(HasSubstr("\"decoder.conv_out.bias\""), HasSubstr("missing")));
  EXPECT_THAT(error_after([&](auto& tensors) { tensors["decoder.conv_out.bias"] = counting({5}); }),
              AllOf(HasSubstr("\"decoder.conv_out.bias\""), HasSubstr("[5]"), HasSubstr("[3]")));
}

TEST_F(BadModelTest, WeightsThatAreNotNumbers) {
  const struct {
    const char *component, *tensor;
    float number;
    const char* text;
  } cases[] = {
      {"transformer", "proj_out.bias", std::numeric_limits<float>::quiet_NaN(), "holds nan at [2]"},
      {"text_encoder", "model.norm.weight", std::numeric_limits<float>::infinity(), "holds inf at [2]"},
      {"vae", "decoder.conv_out.bias", -std::numeric_limits<float>::infinity(), "holds -inf at [2]"},
  };
  for (const auto& c : cases) {
    const fs::path model = linked_model();
    const fs::path part = own(model, c.component);
    change_tensors(part, [&](auto& tensors) {
      tensors[c.tensor] = to_f32(tensors.at(c.tensor));
      tensors[c.tensor].template data<float>()[2] = c.number;
    });
    Engine engine = Engine::open({.model = model});
    EXPECT_THAT(error_of([&] { engine.generate(small_request()); }),
                AllOf(StartsWith(part.string() + "/"), HasSubstr(fmt::format("safetensors: tensor \"{}\"", c.tensor)),
                      HasSubstr(c.text), HasSubstr("finite numbers are needed")));
    fs::remove_all(model);
  }
}

TEST_F(BadModelTest, LatentsThatAreNotNumbersThoughTheWeightsAre) {
  const fs::path model = linked_model();
  change_tensors(own(model, "transformer"), [](auto& tensors) {  // two layers overflow together
    for (const char* name : {"img_in.weight", "proj_out.weight"}) {
      tensors[name] = to_f32(tensors.at(name));
      for (float& x : tensors[name].template span<float>()) x *= 1e30f;
    }
  });
  Request request = small_request();
  request.noise = at("noise.safetensors");
  Tensor noise = host_tensor({1, 16, 8, 8}, DType::f32);
  std::ranges::fill(noise.span<float>(), 1e20f);
  noise.data<float>()[7] = -2e20f;
  write_safetensors(request.noise, {{"noise", noise}});
  EXPECT_THAT(error_of([&] { Engine::open({.model = model}).generate(request); }),
              AllOf(HasSubstr((model / "transformer").string()), HasSubstr("not finite after 2 steps"),
                    HasSubstr("noise from -2e+20 to 1e+20"), HasSubstr("cfg 4")));
}

TEST_F(BadModelTest, RoundedWeightsAreNoted) {
  const fs::path model = linked_model();
  change_tensors(own(model, "vae"), [](auto& tensors) {
    for (auto& [name, tensor] : tensors) tensor = to_f32(tensor);
  });
  EXPECT_THAT(Engine::open({.model = model, .held_as = HeldAs::bf16}).generate(small_request()).notes,
              ::testing::ElementsAre("the vae's weights are rounded to bf16"));
  EXPECT_TRUE(Engine::open({.model = model}).generate(small_request()).notes.empty());
}

TEST_F(BadModelTest, ThreadsOutOfRange) { EXPECT_THAT(open_error({.model = kTiny, .threads = -1}), HasSubstr("-1")); }

}  // namespace
}  // namespace inkstone
