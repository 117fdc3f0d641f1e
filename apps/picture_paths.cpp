#include "picture_paths.h"

#include <fmt/format.h>

namespace inkstone::cli {
namespace {

namespace fs = std::filesystem;

fs::path unused_path(uint64_t seed) {
  fs::path path = fmt::format("inkstone-{}.png", seed);
  for (int n = 2; fs::exists(path); ++n) path = fmt::format("inkstone-{}-{}.png", seed, n);
  return path;
}

fs::path numbered(const fs::path& path, int64_t number) {
  return path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), number, path.extension().string());
}

}  // namespace

std::vector<fs::path> picture_paths(const std::optional<std::string>& output, uint64_t seed, int64_t count) {
  if (output && count == 1) return {*output};
  std::vector<fs::path> paths;
  for (int64_t i = 0; i < count; ++i)
    paths.push_back(output ? numbered(*output, i + 1) : unused_path(seed + static_cast<uint64_t>(i)));
  return paths;
}

}  // namespace inkstone::cli
