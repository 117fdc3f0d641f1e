// Where the pictures of a run go.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace inkstone::cli {

/// One path per picture. Of a count above one, picture i of `output` star.png is star-i.png, counted from 1. Without
/// `output` inkstone-SEED.png with each picture's own seed, or inkstone-SEED-2.png and so on where that exists already.
std::vector<std::filesystem::path> picture_paths(const std::optional<std::string>& output, uint64_t seed,
                                                 int64_t count);

}  // namespace inkstone::cli
