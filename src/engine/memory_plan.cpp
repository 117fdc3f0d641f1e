#include "engine/memory_plan.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "engine/dry_run.h"
#include "model/text_encoder.h"
#include "ops/quantity.h"

namespace inkstone {
namespace {

constexpr int64_t kLeastBand = 4;  // rows of latents; below, the work at the edges outgrows the rest
constexpr int kCausalFrames = 3;   // of a kernel of the VAE, of which the last is kept

std::string text(size_t bytes) { return quantity(static_cast<double>(bytes), "B"); }

/// Elements of a tensor that end up in memory of their own, and not in the mapped file.
int64_t converted_elements(const Checkpoint& files, const std::string& name, const Tensor& stored, HeldType held) {
  const int rank = stored.shape().rank();
  if (rank == 5) return stored.count() / kCausalFrames;  // kernels are always reordered
  if (rank == 4) return stored.count();
  if (!held || rank < 2 || !name.ends_with(kWeightSuffix) || stored.dtype() == *held) return 0;
  const Shape dense = files.shape_of(name).value_or(stored.shape());
  const bool packed = dense != stored.shape();
  return packed && *held == DType::bf16 ? 0 : dense.count();
}

bool is_unused(std::string_view name) {
  return std::any_of(kUnusedTextPrefixes.begin(), kUnusedTextPrefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

size_t weight_bytes(const Checkpoint& files, const MemoryState& memory) {
  size_t bytes = 0;
  for (const auto& [name, stored] : files.tensors) {
    if (is_unused(name)) continue;
    const auto elements = static_cast<size_t>(converted_elements(files, name, stored.data, memory.held));
    bytes += elements * size_of(memory.held.value_or(stored.data.dtype()));
    if (elements == 0 && memory.weights_copied) bytes += stored.data.bytes();
  }
  return bytes;
}

struct StageNeed {
  const char* name;
  size_t weights;
  size_t activations;

  size_t bytes() const { return weights + activations; }
};

bool fits(size_t bytes, size_t available) { return bytes <= available; }

}  // namespace

MemoryPlan plan_memory(const Model& model, const VaeWeights& vae, const Job& job, const MemoryState& memory) {
  DryRun dry(model, vae);
  // The VAE's and the transformer's converted weights stay for the next call, the text encoder's do not.
  const size_t decoder = weight_bytes(model.vae_files, memory);
  const size_t transformer = weight_bytes(model.transformer_files, memory);
  const size_t text_encoder = weight_bytes(model.text_encoder_files, memory);
  const size_t all = decoder + transformer;
  const auto longest = static_cast<int64_t>(std::max(job.prompt_tokens.ids.size(), job.negative_tokens.ids.size()));
  const size_t latents = 2 * static_cast<size_t>(job.latents.count()) * sizeof(float);  // noise, and what became of it
  const StageNeed encode = {"encoding the prompt", text_encoder + (memory.transformer_bound ? all : decoder),
                            dry.encode(longest)};
  int64_t band_rows = 0;
  const auto decoding = [&] { return StageNeed{"decoding a picture", all, latents + dry.decode(job, band_rows)}; };
  StageNeed decode = decoding();
  for (int64_t rows = job.latents[2] / 2; rows >= kLeastBand && !fits(decode.bytes(), memory.available_bytes);
       rows /= 2) {
    band_rows = rows;
    decode = decoding();
  }
  int64_t batch = job.count;
  const auto denoise = [&] { return StageNeed{"drawing a picture", all, latents + dry.denoise(job, batch)}; };
  StageNeed draw = denoise();
  while (batch > 1 && !fits(draw.bytes(), memory.available_bytes)) {
    batch = (batch + 1) / 2;
    draw = denoise();
  }
  const std::array<StageNeed, 3> stages = {encode, draw, decode};
  const auto most = *std::max_element(stages.begin(), stages.end(),
                                      [](const StageNeed& a, const StageNeed& b) { return a.bytes() < b.bytes(); });
  check(fits(most.bytes(), memory.available_bytes),
        "size {}x{}: {} needs {} of memory, {} of them for {}weights; {} are available ({})", job.width, job.height,
        most.name, text(most.bytes()), text(most.weights), memory.weights_copied ? "" : "converted ",
        text(memory.available_bytes),
        most.weights <= most.activations ? "a smaller size needs less"
        : memory.weights_copied          ? "weights of fewer bits need less"
                                         : "weights used as they are stored need next to none");
  return {.batch = batch, .band_rows = band_rows, .needed_bytes = most.bytes()};
}

}  // namespace inkstone
