#include "picture_paths.h"

#include <fmt/format.h>

namespace inkstone::cli {
namespace {

namespace fs = std::filesystem;

fs::path unused_path(const std::string& name) {
  fs::path path = name + ".png";
  for (int n = 2; fs::exists(path); ++n) path = fmt::format("{}-{}.png", name, n);
  return path;
}

fs::path numbered(const fs::path& path, int64_t number) {
  return path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), number, path.extension().string());
}

/// The name of picture `index` where the user gave none.
std::string own_name(const Request& request, int64_t index) {
  if (request.noise.empty()) return fmt::format("inkstone-{}", request.seed + static_cast<uint64_t>(index));
  const std::string name = fmt::format("inkstone-{}", request.noise.stem().string());
  return request.count == 1 ? name : fmt::format("{}-{}", name, index + 1);
}

}  // namespace

std::vector<fs::path> picture_paths(const std::optional<std::string>& output, const Request& request) {
  if (output && request.count == 1) return {*output};
  std::vector<fs::path> paths;
  for (int64_t i = 0; i < request.count; ++i)
    paths.push_back(output ? numbered(*output, i + 1) : unused_path(own_name(request, i)));
  return paths;
}

}  // namespace inkstone::cli
