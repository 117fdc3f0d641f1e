// Facts about the library itself.
#include <dlfcn.h>
#include <set>
#include <vector>

#include "inkstone/inkstone.h"

#include "core/error.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModel = "models/tiny";
constexpr std::string_view kInstalled = "share/inkstone";
constexpr int kLevels = 3;  // PREFIX/lib/TRIPLET/libinkstone.so is the deepest place

/// The file that holds this code: the shared library, or a program that it is linked into.
fs::path own_file() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&default_model), &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code ignored;
  return fs::canonical(info.dli_fname, ignored);
}

/// Where the model may be, seen from a program or library.
std::vector<fs::path> places_around(const fs::path& file) {
  std::vector<fs::path> places;
  fs::path folder = file.parent_path();
  for (int level = 0; level < kLevels; ++level) {
    folder = folder.parent_path();
    places.push_back(folder / kModel);
    places.push_back(folder / kInstalled / kModel);
  }
  return places;
}

}  // namespace

std::string version() { return INKSTONE_VERSION; }

std::string_view name_of(Stage stage) {
  switch (stage) {
    case Stage::load:
      return "load";
    case Stage::encode:
      return "encode";
    case Stage::denoise:
      return "denoise";
    case Stage::decode:
      return "decode";
    case Stage::write:
      return "write";
  }
  return "";
}

fs::path default_model() {
  std::error_code ignored;
  std::set<std::string> tried;
  for (const fs::path& file : {own_file(), fs::read_symlink("/proc/self/exe", ignored)}) {
    if (file.empty()) continue;
    for (const fs::path& place : places_around(file)) {
      if (fs::is_directory(place, ignored)) return place;
      tried.insert(place.string());
    }
  }
  fail("the model that ships with Inkstone is not where it should be ({}); give a model's folder",
       fmt::join(tried, ", "));
}

}  // namespace inkstone
