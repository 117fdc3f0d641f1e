// What tells a model from another one without reading all of it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/model.h"

namespace inkstone {

/// FNV-1a (Fowler, Noll, Vo), which spreads well enough to name files.
uint64_t hashed(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325u);

/// Of 64 samples of a file's bytes.
uint64_t sampled_hash(const std::filesystem::path& path);

/// All of a model that embeddings depend on, for this computer: the text encoder's configuration; its files' names,
/// sizes, times, and samples of their bytes.
std::string text_encoder_fingerprint(const Model& model);

/// 16 digits of weights (sizes and samples of their bytes), configurations and schedule: the same for every copy of a
/// model, wherever it lies. Needs all components.
std::string model_fingerprint(const Model& model);

}  // namespace inkstone
