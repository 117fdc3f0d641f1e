// Where the pictures of a run go.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "inkstone/inkstone.h"

namespace inkstone::cli {

/// One path per picture. Of a count above one, picture i of `output` star.png is star-i.png, counted from 1. Without
/// `output` inkstone-SEED.png with each picture's own seed, or of noise from start.safetensors inkstone-start.png,
/// numbered likewise; with -2 and so on behind it where that exists already.
std::vector<std::filesystem::path> picture_paths(const std::optional<std::string>& output, const Request& request);

}  // namespace inkstone::cli
