// Writes one component that is quantized to its folder, and goes on where an earlier call stopped.
#pragma once
#include <stop_token>

#include "core/thread_pool.h"
#include "engine/quantize_matrix.h"
#include "engine/quantize_plan.h"

namespace inkstone {

/// A component of the source and its place in the output.
struct ComponentJob {
  Checkpoint files;
  ComponentPlan plan;
  std::filesystem::path folder;
};

/// What a folder's quantization.json says of itself: an output belongs to one recipe.
nlohmann::json recipe_of(const Checkpoint& files, const QuantizeOptions& options);

/// Writes the shards that are not there yet, then the index. Throws Error if the folder holds weights of another
/// recipe.
std::vector<QuantizedTensor> write_component(const ComponentJob& job, const nlohmann::json& recipe, ThreadPool& pool,
                                             const PieceDone& done);

/// Bytes that write_component still has to write, by what the folder holds.
size_t bytes_to_write(const ComponentJob& job, const nlohmann::json& recipe);

/// Copies a file if the copy is not there yet. Throws Cancelled soon after a stop request of `stop`.
void copy_whole(const std::filesystem::path& from, const std::filesystem::path& to, std::stop_token stop);

}  // namespace inkstone
