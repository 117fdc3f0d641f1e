#include "engine/job.h"

#include "core/option_error.h"
#include "engine/finite.h"
#include "io/image_codecs.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace inkstone {
namespace {

constexpr std::string_view kBlank = " ";  // the documented way to guide without a negative prompt
constexpr std::string_view kNoise = "noise";

static_assert(kMaxSide == kMaxImageSide && kMaxSteps == kTrainTimesteps && kMaxSequenceLength == kMaxPromptTokens);

void check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  check_option(value >= least && value <= most, "{} {}: {} to {} work", name, value, least, most);
}

/// What holds where the request says nothing.
struct Usual {
  ScheduleConfig schedule;
  int64_t steps;
  double cfg;
};

Usual usual_of(const Model& model, Preset preset) {
  switch (preset) {
    case Preset::lightning_4:
      return {lightning_schedule(), 4, 1};
    case Preset::lightning_8:
      return {lightning_schedule(), 8, 1};
    case Preset::none:
      break;
  }
  return {model.schedule, model.defaults.steps, model.defaults.cfg};
}

void choose_numbers(Job& job, const Model& model, const Request& request) {
  const Usual usual = usual_of(model, request.preset);
  job.preset = request.preset;
  job.cfg = request.cfg.value_or(usual.cfg);
  check_option(job.cfg >= 1 && job.cfg <= kMaxCfg, "cfg {}: 1 to {} work", job.cfg, kMaxCfg);
  job.steps = request.steps.value_or(usual.steps);
  check_range("steps", job.steps, 1, kMaxSteps);  // the schedule may need 2
  job.count = request.count;
  job.width = request.width.value_or(model.defaults.width);
  job.height = request.height.value_or(model.defaults.height);
  job.grid = grid_of(job.width, job.height, model.unit());
  check_image_size(job.width, job.height);
  const int64_t scale = model.vae.scale();
  job.latents = {job.count, model.vae.latent_channels, job.height / scale, job.width / scale};
  job.sigmas = make_schedule(usual.schedule, job.steps, job.grid.tokens());
}

PromptTokens tokenize(Job& job, const Model& model, const char* name, std::string_view text) {
  return tokenize_named(model.tokenizer, name, text, job.max_sequence_length, job.notes);
}

void choose_texts(Job& job, const Model& model, const Request& request) {
  job.max_sequence_length = request.max_sequence_length;
  job.prompt = request.prompt;
  job.prompt_tokens = tokenize(job, model, "prompt", job.prompt);
  job.guided = job.cfg > 1;  // as the pipeline of diffusers decides
  if (!job.guided && !request.negative_prompt) return;
  const std::string negative = request.negative_prompt.value_or(std::string(kBlank));
  const PromptTokens tokens =
      tokenize(job, model, "negative prompt", negative);  // a wrong one is wrong without use, too
  if (!job.guided) {
    job.notes.push_back(fmt::format("the negative prompt has no effect: cfg is {}, not above 1", job.cfg));
    return;
  }
  job.negative = negative;
  job.negative_tokens = tokens;
}

/// The file's pictures, or the one at `index`.
Tensor read_noise(const std::filesystem::path& path, const Shape& shape, std::optional<int64_t> index) {
  const SafetensorsFile file = read_safetensors(path);
  const StoredTensor* noise = find(file.tensors, kNoise);
  if (noise == nullptr) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file.tensors) names.push_back(name);
    fail("{}: holds no tensor \"{}\", F32 {}; it holds {}", path.string(), kNoise, shape.text(), first_names(names));
  }
  const Tensor& values = noise->data;
  const bool fits =
      values.shape().rank() == shape.rank() && values.shape() == shape.with_first(index ? values.dim(0) : shape[0]);
  check(values.dtype() == DType::f32 && fits, "{}: tensor \"{}\" is {} {}, F32 {} is needed", path.string(), kNoise,
        name_of(values.dtype()), values.shape().text(), shape.text());
  if (const auto found = find_not_finite(values))
    fail("{}: tensor \"{}\" holds {}, finite numbers are needed", path.string(), kNoise, *found);
  if (!index) return values;
  check(*index >= 0 && *index < values.dim(0), "{}: tensor \"{}\" is {}, but picture {} of it (from 0) is wanted",
        path.string(), kNoise, values.shape().text(), *index);
  return values.rows(*index, *index + 1);
}

}  // namespace

Job make_job(const Model& model, const Request& request) {
  check_range("count", request.count, 1, kMaxPictures);
  check_option(!request.noise.empty() || request.seed <= largest_seed(request.count),
               "seed {}: picture i has seed + i; with count {} the largest seed is {}", request.seed, request.count,
               largest_seed(request.count));
  Job job = {.seed = request.noise.empty() ? request.seed : 0,
             .noise_file = request.noise,
             .noise_index = request.noise.empty() ? std::nullopt : request.noise_index,
             .previews = static_cast<bool>(request.preview)};
  choose_numbers(job, model, request);
  check_range("preview every", request.preview_every, 1, kMaxSteps);
  check_option(!job.noise_index || job.count == 1, "count {}: 1 works with one picture of a noise file", job.count);
  choose_texts(job, model, request);
  if (!request.model_fingerprint.empty() && request.model_fingerprint != model.fingerprint)
    job.notes.push_back(fmt::format("the model is another than the picture was made with (fingerprint {}, here {})",
                                    request.model_fingerprint, model.fingerprint));
  return job;
}

Tensor starting_noise(const Job& job) {
  return job.noise_file.empty() ? make_noise(job.seed, job.latents)
                                : read_noise(job.noise_file, job.latents, job.noise_index);
}

}  // namespace inkstone
