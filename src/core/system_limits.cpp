#include "core/system_limits.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace inkstone {
namespace {

namespace fs = std::filesystem;

// Names of files and fields; version 1 and version 2 of control groups tell the same in different ones.
struct MemoryFiles {
  const char *limit, *use, *inactive_cache, *active_cache;
};
constexpr MemoryFiles kMemoryV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                   "total_active_file"};
constexpr MemoryFiles kMemoryV2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

/// A control group of this process and where its hierarchy is mounted.
struct Group {
  bool unified = false;  // version 2
  fs::path mount, folder;
};

/// The first number in a file; nothing if there is none ("max" means no limit).
std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// The number behind `field` in a file of lines "field value".
std::optional<double> field_in(const fs::path& path, const std::string& field) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    double value = 0;
    if (words >> name >> value && name == field) return value;
  }
  return std::nullopt;
}

bool lists(const std::string& comma_separated, const std::string& word) {
  return ("," + comma_separated + ",").find("," + word + ",") != std::string::npos;
}

/// The group that /proc/self/cgroup names for a controller, or "" for version 2.
std::optional<fs::path> group_path(const fs::path& root, const std::string& controller) {
  std::ifstream file(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {  // "4:memory,cpu:/path"
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : lists(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

/// Where the hierarchy is mounted; its root within the hierarchy is not "/" in some containers.
std::optional<Group> mounted_group(const fs::path& root, const std::string& controller, const fs::path& path) {
  std::ifstream file(root / "proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {  // "35 31 0:32 /root /mount/point rw ... - cgroup source rw,memory"
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::string skipped, mount_root, mount, type, source, options;
    std::istringstream(line) >> skipped >> skipped >> skipped >> mount_root >> mount;
    std::istringstream(line.substr(dash + 3)) >> type >> source >> options;
    const bool unified = controller.empty();
    if (type != (unified ? "cgroup2" : "cgroup") || (!unified && !lists(options, controller))) continue;
    const fs::path below = path.lexically_relative(mount_root);
    const bool inside = !below.empty() && *below.begin() != "..";
    const fs::path point = root / fs::path(mount).relative_path();
    return Group{unified, point, inside ? (point / below).lexically_normal() : point};
  }
  return std::nullopt;
}

/// Calls `visit` for the process' group of a controller and each one above it, in both versions.
void visit_groups(const fs::path& root, const std::string& controller,
                  const std::function<void(const fs::path& folder, bool unified)>& visit) {
  for (const std::string& name : {controller, std::string()}) {
    const auto path = group_path(root, name);
    const auto group = path ? mounted_group(root, name, *path) : std::nullopt;
    if (!group) continue;
    for (fs::path folder = group->folder;; folder = folder.parent_path()) {
      visit(folder, group->unified);
      if (folder == group->mount || !folder.has_relative_path()) break;
    }
  }
}

void lower(std::optional<double>& least, std::optional<double> value) {
  if (value && (!least || *value < *least)) least = value;
}

std::optional<double> left_in_group(const fs::path& folder, const MemoryFiles& names) {
  const auto limit = number_in(folder / names.limit);
  const auto use = number_in(folder / names.use);
  if (!limit || !use) return std::nullopt;
  const fs::path statistics = folder / "memory.stat";
  const double cache =
      field_in(statistics, names.inactive_cache).value_or(0) + field_in(statistics, names.active_cache).value_or(0);
  return *limit - std::max(*use - cache, 0.0);
}

/// quota / period, each in its own file (version 1: a quota of -1 is none) or both in one (version 2).
std::optional<double> quota_of_group(const fs::path& folder, bool unified) {
  double quota = 0, period = 0;
  if (unified) {
    std::ifstream file(folder / "cpu.max");
    if (!(file >> quota >> period)) return std::nullopt;
  } else {
    quota = number_in(folder / "cpu.cfs_quota_us").value_or(-1);
    period = number_in(folder / "cpu.cfs_period_us").value_or(0);
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

}  // namespace

std::optional<size_t> memory_left(const fs::path& root) {
  constexpr double kKibibyte = 1024;
  std::optional<double> least;
  if (const auto available = field_in(root / "proc/meminfo", "MemAvailable:")) least = *available * kKibibyte;
  visit_groups(root, "memory", [&](const fs::path& folder, bool unified) {
    lower(least, left_in_group(folder, unified ? kMemoryV2 : kMemoryV1));
  });
  if (!least) return std::nullopt;
  return static_cast<size_t>(std::max(*least, 0.0));
}

std::optional<double> processor_quota(const fs::path& root) {
  std::optional<double> least;
  visit_groups(root, "cpu",
               [&](const fs::path& folder, bool unified) { lower(least, quota_of_group(folder, unified)); });
  return least;
}

}  // namespace inkstone
