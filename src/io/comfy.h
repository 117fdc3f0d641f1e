// What ComfyUI's files say outside their tensors.
#pragma once
#include "io/safetensors.h"

namespace inkstone {

/// Adds a tensor `X.comfy_quant` for every layer X that the header's `_quantization_metadata` describes and that has
/// none: both forms hold the same JSON. Throws Error naming `path` and field for metadata that is malformed.
void add_quantization_metadata(SafetensorsFile& file, const std::filesystem::path& path);

}  // namespace inkstone
