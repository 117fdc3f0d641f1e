// What the readers of the components' config.json share.
#pragma once
#include <optional>
#include <string>

#include "io/json.h"
#include "model/config.h"

namespace inkstone {

// Bounds for foreign numbers: far above every model of this family, far below what would overflow.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;

/// The config.json beside a checkpoint's weights, or its lender's; nothing if there is none.
std::optional<JsonFile> find_config(const Checkpoint& checkpoint);

/// The metadata of a GGUF file; nothing if the checkpoint is none, or if its file does not say what it is of. Throws
/// Error if that is another architecture.
std::optional<JsonFile> find_metadata(const Checkpoint& checkpoint, const std::string& architecture);

/// Throws Error unless a boolean field is absent or false, saying that this program does not run that variant.
void refuse_variant(const JsonFile& config, const std::string& field);

/// Throws Error if the weights are packed by a library whose packing this program does not read.
void refuse_quantization(const JsonFile& config);

/// The shape of a tensor that stands in for a missing config.json. Throws Error naming file and tensor if it is missing
/// or has not `rank` sizes, all of them positive.
Shape telling_shape(const Checkpoint& checkpoint, const std::string& name, int rank);

/// Layers named `prefix` + number + ".": one more than the highest number. Throws Error if there are none, or too many.
int64_t count_layers(const Checkpoint& checkpoint, const std::string& prefix);

/// `whole` / `part`. Throws Error naming the tensor unless that leaves no rest.
int64_t divided(const Checkpoint& checkpoint, const std::string& tensor, int64_t whole, int64_t part);

/// Marks a configuration as inferred: what was read off the shapes, and what is taken from Qwen-Image-2512.
ConfigOrigin inferred_from(const Checkpoint& checkpoint, const std::string& shapes, const std::string& published);

}  // namespace inkstone
