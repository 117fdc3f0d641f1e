#include "model/schedule.h"

#include <cmath>

#include "io/files.h"
#include "io/json.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Sigmas = std::vector<float>;

constexpr int64_t k1328 = 83 * 83;
constexpr int64_t k1024 = 64 * 64;
constexpr int64_t k512 = 32 * 32;
constexpr float kTolerance = 2e-7f;  // the reference's own f32 rounding is half of that

void expect_near(const Sigmas& found, const Sigmas& wanted, const std::string& what = "") {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], wanted[i], kTolerance) << what << ", sigma " << i;
}

TEST(Schedule, GivesThePublishedTables) {
  const ScheduleConfig qwen;
  expect_near(make_schedule(qwen, 4, k1328), {1, 0.7809801f, 0.4755488f, 0.02f, 0});
  expect_near(make_schedule(qwen, 8, k1328),
              {1, 0.9239344f, 0.8353358f, 0.7308288f, 0.6057056f, 0.4531986f, 0.2632135f, 0.02f, 0});
  expect_near(make_schedule(qwen, 20, k1328),
              {1,          0.9754524f, 0.9494324f, 0.9218037f, 0.8924120f, 0.8610833f, 0.8276195f,
               0.7917945f, 0.7533497f, 0.7119862f, 0.6673588f, 0.6190654f, 0.5666349f, 0.5095117f,
               0.4470366f, 0.3784200f, 0.3027101f, 0.2187466f, 0.1251021f, 0.02f,      0});
  expect_near(
      make_schedule(qwen, 50, k1328),
      {1,          0.9909883f, 0.9817680f, 0.9723316f, 0.9626715f, 0.9527797f, 0.9426478f, 0.9322666f, 0.9216272f,
       0.9107196f, 0.8995337f, 0.8880587f, 0.8762830f, 0.8641950f, 0.8517817f, 0.8390301f, 0.8259261f, 0.8124549f,
       0.7986007f, 0.7843472f, 0.7696766f, 0.7545704f, 0.7390090f, 0.7229714f, 0.7064356f, 0.6893778f, 0.6717730f,
       0.6535945f, 0.6348137f, 0.6154001f, 0.5953212f, 0.5745424f, 0.5530263f, 0.5307329f, 0.5076194f, 0.4836397f,
       0.4587440f, 0.4328790f, 0.4059870f, 0.3780054f, 0.3488668f, 0.3184977f, 0.2868187f, 0.2537431f, 0.2191764f,
       0.1830155f, 0.1451475f, 0.1054486f, 0.0637828f, 0.02f,      0});
  expect_near(make_schedule(qwen, 4, k512), {1, 0.7492682f, 0.4325879f, 0.02f, 0});
  expect_near(make_schedule(qwen, 8, k512),
              {1, 0.9061342f, 0.8013588f, 0.6836543f, 0.5504702f, 0.3985381f, 0.2235991f, 0.02f, 0});
  expect_near(make_schedule(qwen, 20, k512),
              {1,          0.9681666f, 0.9349497f, 0.9002572f, 0.8639883f, 0.8260334f, 0.7862718f,
               0.7445717f, 0.7007875f, 0.6547590f, 0.6063092f, 0.5552419f, 0.5013391f, 0.4443578f,
               0.3840265f, 0.3200409f, 0.2520587f, 0.1796932f, 0.1025065f, 0.02f,      0});
  expect_near(
      make_schedule(qwen, 50, k512),
      {1,          0.9880639f, 0.9759256f, 0.9635800f, 0.9510216f, 0.9382448f, 0.9252440f, 0.9120132f, 0.8985462f,
       0.8848367f, 0.8708780f, 0.8566633f, 0.8421856f, 0.8274373f, 0.8124108f, 0.7970983f, 0.7814914f, 0.7655816f,
       0.7493601f, 0.7328174f, 0.7159442f, 0.6987301f, 0.6811649f, 0.6632377f, 0.6449372f, 0.6262517f, 0.6071688f,
       0.5876757f, 0.5677592f, 0.5474050f, 0.5265989f, 0.5053253f, 0.4835687f, 0.4613121f, 0.4385382f, 0.4152288f,
       0.3913647f, 0.3669259f, 0.3418913f, 0.3162390f, 0.2899458f, 0.2629873f, 0.2353380f, 0.2069711f, 0.1778581f,
       0.1479692f, 0.1172730f, 0.0857365f, 0.0533245f, 0.02f,      0});
  expect_near(make_schedule(qwen, 4, k1024), {1, 0.7667093f, 0.4556137f, 0.02f, 0});
  expect_near(make_schedule(qwen, 8, k1024),
              {1, 0.9160240f, 0.8200458f, 0.7092946f, 0.5800748f, 0.4273469f, 0.2440539f, 0.02f, 0});
}

TEST(Schedule, GivesTheLightningTables) {
  for (const int64_t tokens : {k512, k1328}) {
    expect_near(make_schedule(lightning_schedule(), 8, tokens),
                {1, 0.9545455f, 0.9f, 0.8333334f, 0.75f, 0.6428571f, 0.5f, 0.3f, 0});
    expect_near(make_schedule(lightning_schedule(), 4, tokens), {1, 0.9f, 0.75f, 0.5f, 0});
  }
}

class ScheduleFilesTest : public FolderTest {
 protected:
  /// The published file.
  static nlohmann::json published() {
    return JsonFile::read(fs::path(INKSTONE_MODELS) / "tiny" / "scheduler" / "scheduler_config.json").object();
  }
  std::string error_with(const char* field, const nlohmann::json& value) const {
    nlohmann::json file = published();
    file[field] = value;
    write("scheduler_config.json", file.dump());
    return error_of([&] { read_schedule_config(folder_); });
  }
  std::string error_of_schedule(const nlohmann::json& file, int64_t steps, int64_t tokens) const {
    write("scheduler_config.json", file.dump());
    return error_of([&] { make_schedule(read_schedule_config(folder_), steps, tokens); });
  }
};

/// Configurations, sizes and steps beside the sigmas that diffusers makes of them.
TEST_F(ScheduleFilesTest, GiveTheSigmasOfDiffusers) {
  const fs::path expected = fs::path(INKSTONE_TEST_DATA) / "expected" / "sigmas.jsonl";
  std::ifstream lines(expected);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    nlohmann::json entry = parse_json(line, expected);
    const auto sigmas = entry["sigmas"].get<Sigmas>();
    const auto steps = entry["steps"].get<int64_t>();
    const auto tokens = entry["image_tokens"].get<int64_t>();
    const std::string what = fmt::format("{}, {} steps, {} tokens", entry["name"].get<std::string>(), steps, tokens);
    for (const char* extra : {"name", "steps", "image_tokens", "sigmas"}) entry.erase(extra);
    entry["_class_name"] = "FlowMatchEulerDiscreteScheduler";
    write("scheduler_config.json", entry.dump());
    expect_near(make_schedule(read_schedule_config(folder_), steps, tokens), sigmas, what);
  }
  EXPECT_GE(count, 100u);
}

TEST_F(ScheduleFilesTest, WithoutAFileThePublishedValuesHold) {
  const Sigmas wanted = make_schedule({}, 8, k1328);
  EXPECT_EQ(make_schedule(read_schedule_config(at("none")), 8, k1328), wanted);
  EXPECT_EQ(make_schedule(read_schedule_config(folder_), 8, k1328), wanted);
  const fs::path file = write("scheduler_config.json", published().dump());
  EXPECT_EQ(make_schedule(read_schedule_config(folder_), 8, k1328), wanted);
  EXPECT_EQ(make_schedule(read_schedule_config(file), 8, k1328), wanted);
}

TEST_F(ScheduleFilesTest, FieldsThatAFileLeavesOutAreThoseOfDiffusersCode) {
  write("scheduler_config.json", R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true})");
  const ScheduleConfig c = read_schedule_config(folder_);
  EXPECT_EQ(c.max_shift, 1.15);
  EXPECT_EQ(c.max_image_tokens, 4096);
  EXPECT_FALSE(c.shift_terminal);
  write("scheduler_config.json", R"({"_class_name": "FlowMatchEulerDiscreteScheduler"})");
  EXPECT_FALSE(read_schedule_config(folder_).dynamic_shifting);
}

TEST_F(ScheduleFilesTest, RefuseOtherSchedulers) {
  EXPECT_THAT(error_with("_class_name", "DDIMScheduler"),
              AllOf(HasSubstr("scheduler_config.json"), HasSubstr("field _class_name is \"DDIMScheduler\""),
                    HasSubstr("FlowMatchEulerDiscreteScheduler is needed")));
  nlohmann::json file = published();
  file.erase("_class_name");
  EXPECT_THAT(error_of_schedule(file, 4, k512), HasSubstr("field _class_name is missing"));
}

TEST_F(ScheduleFilesTest, RefuseOptionsThatThisProgramDoesNotDo) {
  for (const char* option :
       {"invert_sigmas", "stochastic_sampling", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"})
    EXPECT_THAT(error_with(option, true), HasSubstr(fmt::format("field {} is true, false", option)));
  EXPECT_THAT(error_with("prediction_type", "epsilon"),
              HasSubstr("field \"prediction_type\" is \"epsilon\"; this program does not know that option"));
  EXPECT_THAT(error_with("num_train_timesteps", 500), HasSubstr("field num_train_timesteps is 500, 1000 is needed"));
  EXPECT_THAT(error_with("time_shift_type", "cubic"), HasSubstr("\"exponential\" or \"linear\" is needed"));
}

TEST_F(ScheduleFilesTest, MayHaveNewerOptionsThatAreOff) {
  nlohmann::json file = published();
  file["use_new_sigmas"] = false;
  file["new_shift"] = nullptr;
  file["_name_or_path"] = "somewhere";
  write("scheduler_config.json", file.dump());
  EXPECT_EQ(make_schedule(read_schedule_config(folder_), 8, k1328), make_schedule({}, 8, k1328));
}

TEST_F(ScheduleFilesTest, RefuseValuesThatMakeNoSense) {
  EXPECT_THAT(error_with("shift", 0), HasSubstr("field shift is 0, a positive number"));
  EXPECT_THAT(error_with("shift", "3"), HasSubstr("a finite number"));
  EXPECT_THAT(error_with("shift_terminal", 1), HasSubstr("field shift_terminal is 1"));
  EXPECT_THAT(error_with("shift_terminal", -0.1), HasSubstr("field shift_terminal is -0.1"));
  EXPECT_THAT(error_with("base_shift", true), HasSubstr("field base_shift is true"));
  EXPECT_EQ(error_with("base_shift", 1e300),
            at("scheduler_config.json").string() + ": field base_shift is 1e+300, a number from -20 to 20 is needed");
  EXPECT_THAT(error_with("max_shift", -21), HasSubstr("field max_shift is -21, a number from -20 to 20"));
  EXPECT_THAT(error_with("shift", 1e39), HasSubstr("field shift is 1e+39, a positive number up to 1000000"));
  EXPECT_THAT(error_with("use_dynamic_shifting", 1), HasSubstr("true or false"));
  EXPECT_THAT(error_with("max_image_seq_len", 256), HasSubstr("another number than base_image_seq_len 256"));
  EXPECT_THAT(error_with("max_image_seq_len", -1), HasSubstr("field max_image_seq_len is -1"));
  write("scheduler_config.json", "{");
  EXPECT_THAT(error_of([&] { read_schedule_config(folder_); }), HasSubstr("not valid JSON"));
}

TEST_F(ScheduleFilesTest, RefuseNullsWhereDiffusersDoes) {
  for (const char* field : {"num_train_timesteps", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
                            "time_shift_type", "use_karras_sigmas", "use_beta_sigmas", "use_exponential_sigmas"})
    EXPECT_EQ(error_with(field, nullptr),
              fmt::format("{}: field {} is null, a value, or a file without the field is needed",
                          at("scheduler_config.json").string(), field));
  nlohmann::json file = published();
  for (const char* field : {"shift", "invert_sigmas", "stochastic_sampling"}) file[field] = nullptr;
  write("scheduler_config.json", file.dump());
  EXPECT_EQ(make_schedule(read_schedule_config(folder_), 8, k1328), make_schedule({}, 8, k1328));
  file["use_dynamic_shifting"] = nullptr;  // false
  EXPECT_THAT(error_of_schedule(file, 4, k512), HasSubstr("field shift is null"));
  file["shift"] = 1;
  file["shift_terminal"] = nullptr;
  write("scheduler_config.json", file.dump());
  EXPECT_EQ(make_schedule(read_schedule_config(folder_), 4, k512), (Sigmas{1, 0.75, 0.5, 0.25, 0}));
}

TEST_F(ScheduleFilesTest, RefuseShiftsThatGiveNoFallingSigmas) {
  nlohmann::json file = published();
  file["max_shift"] = 19;
  file["max_image_seq_len"] = 300;
  EXPECT_THAT(error_of_schedule(file, 4, 8192),
              AllOf(HasSubstr("scheduler_config.json: "), HasSubstr("do not fall"), HasSubstr("max_shift 19 at 300")));
  file["time_shift_type"] = "linear";
  file["base_shift"] = file["max_shift"] = -0.5;  // of a linear time shift the strength itself
  EXPECT_THAT(error_of_schedule(file, 4, 8192), HasSubstr("do not fall"));
}

TEST(Schedule, NeedsAStep) {
  for (const int64_t steps : {int64_t{0}, int64_t{-1}, INT64_MIN})
    EXPECT_THAT(error_of([&] { make_schedule({}, steps, k512); }),
                HasSubstr(fmt::format("steps {}: at least 1", steps)));
}

TEST(Schedule, OfOneStepCannotBeStretched) {
  EXPECT_THAT(error_of([] { make_schedule({}, 1, k512); }), AllOf(HasSubstr("steps 1"), HasSubstr("at least 2")));
  EXPECT_EQ(make_schedule(lightning_schedule(), 1, k512), (Sigmas{1, 0}));
}

TEST(Schedule, FallsFromOneToTheTerminalToZero) {
  for (const int64_t steps : {2, 3, 7, 100, 1000}) {
    const Sigmas sigmas = make_schedule({}, steps, k1328);
    ASSERT_EQ(sigmas.size(), static_cast<size_t>(steps) + 1);
    EXPECT_EQ(sigmas.front(), 1.0f);
    EXPECT_NEAR(sigmas[sigmas.size() - 2], 0.02f, kTolerance);
    EXPECT_EQ(sigmas.back(), 0.0f);
    for (size_t i = 0; i + 1 < sigmas.size(); ++i) EXPECT_GT(sigmas[i], sigmas[i + 1]) << steps << ", " << i;
  }
}

}  // namespace
}  // namespace inkstone
