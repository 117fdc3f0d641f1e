// The flow-matching Euler schedule (FlowMatchEulerDiscreteScheduler of diffusers).
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace inkstone {

/// num_train_timesteps: the transformer multiplies sigma by it. Schedules of more steps have no meaning.
inline constexpr int64_t kTrainTimesteps = 1000;

/// scheduler_config.json. The defaults are Qwen-Image-2512's published values, not those of diffusers' code.
struct ScheduleConfig {
  double base_shift = 0.5;
  double max_shift = 0.9;
  int64_t base_image_tokens = 256;  ///< base_image_seq_len
  int64_t max_image_tokens = 8192;  ///< max_image_seq_len
  std::optional<double> shift_terminal = 0.02;
  double shift = 1.0;  ///< used when use_dynamic_shifting is false
  bool dynamic_shifting = true;
  enum class TimeShift : uint8_t { exponential, linear } time_shift = TimeShift::exponential;
  std::filesystem::path file;  ///< for error texts; empty: the defaults
};

/// The schedule of https://github.com/ModelTC/Qwen-Image-Lightning: t = 3 s / (1 + 2 s) at every size.
ScheduleConfig lightning_schedule();

/// In a model's folder scheduler/.
inline constexpr const char* kScheduleFile = "scheduler_config.json";

/// Reads a scheduler_config.json, or the one in a folder; the defaults where the path does not exist. Fields that a
/// file leaves out have the defaults of diffusers' code, as they have there. Throws Error for another scheduler class
/// or for options that this program does not do (karras, exponential or beta sigmas, inverted sigmas, stochastic
/// sampling, prediction types), naming file, field and value.
ScheduleConfig read_schedule_config(const std::filesystem::path& path);

/// sigma_0 .. sigma_{steps-1} and a final 0, in f32 as the reference computes them. Throws Error for fewer than one
/// step, or one step with shift_terminal (0/0 in the reference), and, naming the file, for shifts that give no falling
/// sigmas at this size.
std::vector<float> make_schedule(const ScheduleConfig& config, int64_t steps, int64_t image_tokens);

}  // namespace inkstone
