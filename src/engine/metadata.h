// The JSON in a picture that says what made it.
#pragma once
#include <string>
#include <string_view>

#include "engine/job.h"

namespace inkstone {

/// Of picture `index` of a job.
std::string picture_metadata(const Job& job, const Model& model, const EngineOptions& options, int64_t index);

/// The request that a picture's metadata tells; `picture` begins the error texts. See request_like().
Request parse_metadata(std::string_view text, const std::filesystem::path& picture, EngineOptions& options);

}  // namespace inkstone
