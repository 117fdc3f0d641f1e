#include "model/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <system_error>

#include "core/option_error.h"
#include "io/json.h"

namespace inkstone {
namespace {

constexpr const char* kClass = "FlowMatchEulerDiscreteScheduler";
constexpr int64_t kMaxTokens = int64_t{1} << 32;
constexpr double kMostDynamicShift = 20;  // the published ones are below 3; e to the power of 90 is no f32
constexpr double kMostShift = 1e6;

// Parameters of the scheduler in diffusers 0.42. Newer ones that are off or absent change nothing.
constexpr std::array<std::string_view, 14> kFields = {"num_train_timesteps",
                                                      "shift",
                                                      "use_dynamic_shifting",
                                                      "base_shift",
                                                      "max_shift",
                                                      "base_image_seq_len",
                                                      "max_image_seq_len",
                                                      "invert_sigmas",
                                                      "shift_terminal",
                                                      "use_karras_sigmas",
                                                      "use_exponential_sigmas",
                                                      "use_beta_sigmas",
                                                      "time_shift_type",
                                                      "stochastic_sampling"};

/// A null is no default: diffusers fails on one in these fields. In `shift` it does so only where that is used.
void refuse_nulls(const JsonFile& f) {
  std::vector<const char*> fields = {"num_train_timesteps", "base_shift",        "max_shift",
                                     "base_image_seq_len",  "max_image_seq_len", "time_shift_type",
                                     "use_karras_sigmas",   "use_beta_sigmas",   "use_exponential_sigmas"};
  if (!f.boolean_or("use_dynamic_shifting", false)) fields.push_back("shift");
  for (const char* field : fields)
    if (f.object().contains(field) && !f.has(field)) f.refuse(field, "a value, or a file without the field");
}

void refuse_others(const JsonFile& f) {
  if (f.text("_class_name") != kClass) f.refuse("_class_name", kClass);
  if (f.integer_or("num_train_timesteps", kTrainTimesteps, 1, kMaxTokens) != kTrainTimesteps)
    f.refuse("num_train_timesteps", fmt::format("{}", kTrainTimesteps));
  for (const char* option :
       {"invert_sigmas", "stochastic_sampling", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"})
    if (f.boolean_or(option, false)) f.refuse(option, "false (this program does not do that)");
  for (const auto& [name, value] : f.object().items()) {
    const bool known = std::find(kFields.begin(), kFields.end(), name) != kFields.end() || name.starts_with('_');
    if (!known && !value.is_null() && value != false)
      fail("{}: field {} is {}; this program does not know that option", f.path().string(), shown(name), shown(value));
  }
}

double dynamic_shift_or(const JsonFile& f, const char* field, double absent) {
  const double shift = f.number_or(field, absent);
  if (std::abs(shift) > kMostDynamicShift)
    f.refuse(field, fmt::format("a number from {} to {}", -kMostDynamicShift, kMostDynamicShift));
  return shift;
}

ScheduleConfig from_file(const JsonFile& f) {
  refuse_others(f);
  refuse_nulls(f);
  // A file means what diffusers makes of it: fields that it leaves out are those of FlowMatchEulerDiscreteScheduler's
  // code, not of the published model.
  ScheduleConfig c;
  c.file = f.path();
  c.dynamic_shifting = f.boolean_or("use_dynamic_shifting", false);
  c.shift = f.number_or("shift", 1.0);
  c.base_shift = dynamic_shift_or(f, "base_shift", 0.5);
  c.max_shift = dynamic_shift_or(f, "max_shift", 1.15);
  c.base_image_tokens = f.integer_or("base_image_seq_len", 256, 0, kMaxTokens);
  c.max_image_tokens = f.integer_or("max_image_seq_len", 4096, 0, kMaxTokens);
  const double terminal = f.number_or("shift_terminal", 0.0);
  c.shift_terminal = terminal == 0 ? std::nullopt : std::optional(terminal);
  const std::string type = f.text_or("time_shift_type", "exponential");
  c.time_shift = type == "linear" ? ScheduleConfig::TimeShift::linear : ScheduleConfig::TimeShift::exponential;

  if (type != "linear" && type != "exponential") f.refuse("time_shift_type", "\"exponential\" or \"linear\"");
  if (c.shift <= 0 || c.shift > kMostShift) f.refuse("shift", fmt::format("a positive number up to {}", kMostShift));
  if (terminal < 0 || terminal >= 1) f.refuse("shift_terminal", "null or a number from 0 to below 1");
  if (c.max_image_tokens == c.base_image_tokens)
    f.refuse("max_image_seq_len", fmt::format("another number than base_image_seq_len {}", c.base_image_tokens));
  return c;
}

/// n numbers from 1 down to 1 / n in equal steps, as numpy's linspace rounds them.
std::vector<float> unshifted(int64_t n) {
  const double last = 1.0 / static_cast<double>(n);
  std::vector<float> s;
  for (int64_t i = 0; i < n; ++i)
    s.push_back(
        n == 1 ? 1.0f : static_cast<float>(1.0 + static_cast<double>(i) * ((last - 1.0) / static_cast<double>(n - 1))));
  if (n > 1) s.back() = static_cast<float>(last);
  return s;
}

/// Strength of the shift for a picture's size: linear in its tokens, not clamped.
double dynamic_shift(const ScheduleConfig& c, int64_t image_tokens) {
  const double slope = (c.max_shift - c.base_shift) / static_cast<double>(c.max_image_tokens - c.base_image_tokens);
  const double offset = c.base_shift - slope * static_cast<double>(c.base_image_tokens);
  return static_cast<double>(image_tokens) * slope + offset;
}

void shift(std::vector<float>& sigmas, const ScheduleConfig& c, int64_t image_tokens) {
  if (!c.dynamic_shifting) {
    const auto strength = static_cast<float>(c.shift);
    const auto rest = static_cast<float>(c.shift - 1);
    for (float& s : sigmas) s = strength * s / (1.0f + rest * s);
    return;
  }
  const double mu = dynamic_shift(c, image_tokens);
  const auto strength = static_cast<float>(c.time_shift == ScheduleConfig::TimeShift::linear ? mu : std::exp(mu));
  for (float& s : sigmas) s = strength / (strength + (1.0f / s - 1.0f));
}

/// Makes the last sigma `terminal`, keeping distances from 1 in proportion.
void stretch(std::vector<float>& sigmas, double terminal) {
  const float factor = (1.0f - sigmas.back()) / static_cast<float>(1.0 - terminal);
  for (float& s : sigmas) s = 1.0f - (1.0f - s) / factor;
}

}  // namespace

ScheduleConfig lightning_schedule() {
  const double shift = std::log(3.0);
  ScheduleConfig c;
  c.base_shift = shift;
  c.max_shift = shift;
  c.shift_terminal = std::nullopt;
  return c;
}

ScheduleConfig read_schedule_config(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const auto file = JsonFile::read_if_present(folder ? path / kScheduleFile : path);
  return file ? from_file(*file) : ScheduleConfig{};
}

std::vector<float> make_schedule(const ScheduleConfig& config, int64_t steps, int64_t image_tokens) {
  check_option(steps >= 1, "steps {}: at least 1 is needed", steps);
  check_option(
      steps > 1 || !config.shift_terminal,
      "steps {}: at least 2 are needed by this model's scheduler, whose last step starts at sigma {} (shift_terminal)",
      steps, config.shift_terminal.value_or(0));
  std::vector<float> sigmas = unshifted(steps);
  shift(sigmas, config, image_tokens);
  if (config.shift_terminal) stretch(sigmas, *config.shift_terminal);
  sigmas.push_back(0.0f);
  for (size_t i = 0; i + 1 < sigmas.size(); ++i)
    check(std::isfinite(sigmas[i]) && sigmas[i] >= sigmas[i + 1],
          "{}: the sigmas of {} steps and {} image tokens do not fall: {} after {} (base_shift {} at {} tokens, "
          "max_shift {} at {}, shift {})",
          config.file.empty() ? "the scheduler" : config.file.string(), steps, image_tokens, sigmas[i + 1], sigmas[i],
          config.base_shift, config.base_image_tokens, config.max_shift, config.max_image_tokens, config.shift);
  return sigmas;
}

}  // namespace inkstone
