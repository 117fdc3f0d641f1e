#include "model/config_file.h"

#include <charconv>
#include <system_error>

namespace inkstone {

namespace fs = std::filesystem;

std::optional<JsonFile> find_config(const Checkpoint& checkpoint) {
  std::error_code ignored;
  const fs::path folder = fs::is_directory(checkpoint.path, ignored) ? checkpoint.path : checkpoint.path.parent_path();
  auto config = JsonFile::read_if_present(folder / "config.json");
  if (!config && !checkpoint.lender.empty()) config = JsonFile::read_if_present(checkpoint.lender / "config.json");
  return config;
}

std::optional<JsonFile> find_metadata(const Checkpoint& checkpoint, const std::string& architecture) {
  constexpr const char* kArchitecture = "general.architecture";
  if (!checkpoint.metadata.contains(kArchitecture)) return std::nullopt;
  JsonFile metadata(checkpoint.path, checkpoint.metadata);
  if (metadata.text(kArchitecture) != architecture) metadata.refuse(kArchitecture, architecture);
  return metadata;
}

void refuse_variant(const JsonFile& config, const std::string& field) {
  if (config.boolean_or(field, false)) config.refuse(field, "false (this program does not run that variant)");
}

void refuse_quantization(const JsonFile& config) {
  if (config.has("quantization_config"))
    config.refuse("quantization_config", "none (weights as that library packs them cannot be read)");
}

Shape telling_shape(const Checkpoint& checkpoint, const std::string& name, int rank) {
  const auto shape = checkpoint.shape_of(name);
  check(shape.has_value(), "{}: without a config.json tensor {} is needed, which is missing", checkpoint.path.string(),
        name);
  bool good = shape->rank() == rank;
  for (int i = 0; i < shape->rank(); ++i) good = good && (*shape)[i] > 0;
  check(good, "{}: has shape {}; {} positive sizes are needed", describe(*checkpoint.find(name), name), shape->text(),
        rank);
  return *shape;
}

int64_t count_layers(const Checkpoint& checkpoint, const std::string& prefix) {
  int64_t layers = 0;
  for (auto item = checkpoint.tensors.lower_bound(prefix);
       item != checkpoint.tensors.end() && item->first.starts_with(prefix); ++item) {
    const std::string_view name = std::string_view(item->first).substr(prefix.size());
    int64_t index = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool good =
        error == std::errc() && index >= 0 && index < kMaxLayers && end != name.data() + name.size() && *end == '.';
    check(good, "{}: a layer number below {} is needed after {}", describe(item->second, item->first), kMaxLayers,
          prefix);
    layers = std::max(layers, index + 1);
  }
  check(layers > 0, "{}: without a config.json tensors {}* are needed, which are missing", checkpoint.path.string(),
        prefix);
  return layers;
}

int64_t divided(const Checkpoint& checkpoint, const std::string& tensor, int64_t whole, int64_t part) {
  check(whole % part == 0, "{}: {} features are no multiple of {}; a config.json is needed",
        describe(*checkpoint.find(tensor), tensor), whole, part);
  return whole / part;
}

ConfigOrigin inferred_from(const Checkpoint& checkpoint, const std::string& shapes, const std::string& published) {
  return {.inferred = true,
          .note = fmt::format("{}: no config.json: {} from the weights' shapes; {} as in Qwen-Image-2512",
                              checkpoint.path.string(), shapes, published)};
}

}  // namespace inkstone
