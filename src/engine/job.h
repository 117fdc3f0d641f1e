// A request with every choice made and checked, before any work.
#pragma once
#include <string>
#include <vector>

#include "engine/model.h"
#include "model/latents.h"
#include "model/prompt.h"

namespace inkstone {

struct Job {
  std::string prompt;
  std::string negative;  ///< of the unconditional branch
  bool guided = false;   ///< two branches; otherwise `negative` is unused
  Preset preset = Preset::none;
  double cfg = 1;
  int64_t steps = 0;
  int64_t width = 0;
  int64_t height = 0;
  int64_t count = 1;
  uint64_t seed = 0;  ///< 0 with a noise file
  std::optional<int64_t> max_sequence_length;
  std::filesystem::path noise_file;    ///< empty: noise from the seeds
  std::optional<int64_t> noise_index;  ///< of the file's pictures only this one

  Grid grid;
  Shape latents;  ///< (count, z, h, w)
  PromptTokens prompt_tokens, negative_tokens;
  std::vector<float> sigmas;
  std::vector<std::string> notes;
  bool previews = false;  ///< are decoded between steps
};

/// Throws Error, naming the option, for anything in the request that the model cannot do.
Job make_job(const Model& model, const Request& request);

/// The job's starting noise (count, z, h, w), from its file or its seeds. Throws Error, naming file and tensor, for a
/// file that has no finite F32 `noise` of this shape.
Tensor starting_noise(const Job& job);

}  // namespace inkstone
