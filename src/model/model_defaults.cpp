// inkstone.json.
#include "io/json.h"
#include "model/config.h"
#include "model/schedule.h"

namespace inkstone {
namespace {

constexpr int64_t kMaxPixels = 65536;

}  // namespace

ModelDefaults read_model_defaults(const std::filesystem::path& model_folder) {
  ModelDefaults d;
  const auto f = JsonFile::read_if_present(model_folder / kDefaultsFile);
  if (!f) return d;
  f->allow_only({"steps", "width", "height", "cfg"});
  d.steps = f->integer_or("steps", d.steps, 1, kTrainTimesteps);
  d.width = f->integer_or("width", d.width, 1, kMaxPixels);
  d.height = f->integer_or("height", d.height, 1, kMaxPixels);
  d.cfg = f->number_or("cfg", d.cfg);
  if (d.cfg < 1) f->refuse("cfg", "a number of at least 1");
  return d;
}

}  // namespace inkstone
