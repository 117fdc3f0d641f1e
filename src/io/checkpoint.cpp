#include "io/checkpoint.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "core/mapped_file.h"
#include "io/comfy.h"
#include "io/gguf.h"
#include "io/json.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kGgufSuffix = ".gguf";
constexpr int64_t kMostParts = 1 << 16;                // of a GGUF file: its field has 16 bits
constexpr std::string_view kTokenizer = "tokenizer.";  // begins the keys of a GGUF file's tokenizer

struct Folder {
  std::vector<fs::path> indexes;
  std::vector<fs::path> files;
};

Folder list_folder(const fs::path& path) {
  Folder folder;
  std::error_code error;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(".")) continue;  // left by other programs, or our own temporary files
    if (name.ends_with(kIndexSuffix)) folder.indexes.push_back(entry->path());
    if (name.ends_with(kSuffix) || name.ends_with(kGgufSuffix)) folder.files.push_back(entry->path());
  }
  check(!error, "{}: cannot read the folder: {}", path.string(), error.message());
  std::sort(folder.indexes.begin(), folder.indexes.end());
  std::sort(folder.files.begin(), folder.files.end());
  return folder;
}

std::string names_of(const std::vector<fs::path>& files) {
  std::vector<std::string> names;
  for (const fs::path& file : files) names.push_back(file.filename().string());
  return fmt::format("{}", fmt::join(names, ", "));
}

/// A GGUF file's tensors; its metadata are added to the checkpoint's.
TensorMap read_gguf_tensors(const fs::path& file, Checkpoint& checkpoint) {
  GgufFile read = read_gguf(file);
  if (checkpoint.metadata.is_null()) checkpoint.metadata = nlohmann::json::object();
  for (const auto& [key, value] : read.metadata.items())
    if (!key.starts_with(kTokenizer)) checkpoint.metadata[key] = value;
  return std::move(read.tensors);
}

TensorMap read_safetensors_tensors(const fs::path& file) {
  SafetensorsFile read = read_safetensors(file);
  add_quantization_metadata(read, file);
  return std::move(read.tensors);
}

/// Adds a file's tensors under their stored names.
void add_file(const fs::path& file, Checkpoint& checkpoint, TensorMap& stored) {
  const auto mapped = MappedFile::open(file);
  const bool gguf = is_gguf(mapped->bytes());
  check(gguf || may_be_safetensors(mapped->bytes()),
        "{}: is neither a safetensors nor a GGUF file, one of which is needed: it begins with {}", file.string(),
        shown_beginning(mapped->bytes()));
  const TensorMap read = gguf ? read_gguf_tensors(file, checkpoint) : read_safetensors_tensors(file);
  for (const auto& [name, tensor] : read) {
    const auto [there, added] = stored.try_emplace(name, tensor);
    check(added, "{}: tensor {} is also in {}; give one of the two files", file.string(), shown(name),
          there->second.file.string());
  }
}

/// The file of each tensor as an index tells it.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const JsonFile map = JsonFile::read(index).child("weight_map");
  check(!map.object().empty(), "{}: weight_map is empty", index.string());
  std::map<std::string, std::string> files;
  for (const auto& [tensor, value] : map.object().items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    // A path could lead out of the folder.
    check(file.ends_with(kSuffix) && file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos,
          "{}: tensor {} is in {}; the name of a *{} file in the same folder is needed", index.string(), shown(tensor),
          shown(value), kSuffix);
    files.emplace(tensor, file);
  }
  return files;
}

TensorMap read_shards(const fs::path& index, Checkpoint& checkpoint) {
  const auto weight_map = read_weight_map(index);
  std::set<std::string> shards;
  for (const auto& [tensor, file] : weight_map) shards.insert(file);

  TensorMap stored;
  for (const std::string& shard : shards) {
    const fs::path file = index.parent_path() / shard;
    std::error_code ignored;
    check(fs::exists(file, ignored), "{}: shard {} is missing", index.string(), file.string());
    checkpoint.files.push_back(file);
    add_file(file, checkpoint, stored);
  }
  for (const auto& [name, tensor] : stored) {
    const auto entry = weight_map.find(name);
    check(entry != weight_map.end(), "{}: tensor {} of {} is not in its weight_map", index.string(), shown(name),
          tensor.file.string());
    check(entry->second == tensor.file.filename(), "{}: tensor {} should be in {}, but is in {}", index.string(),
          shown(name), entry->second, tensor.file.string());
  }
  for (const auto& [name, file] : weight_map)
    check(stored.contains(name), "{}: tensor {} should be in {}, which does not hold it", index.string(), shown(name),
          file);
  return stored;
}

bool is_gguf_name(const fs::path& file) { return file.extension() == kGgufSuffix; }

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// 0.safetensors, 1.safetensors, ...
void check_numbers(const fs::path& folder, const std::vector<fs::path>& files) {
  for (size_t i = 0; i < files.size(); ++i)
    check(std::ranges::find(files, folder / fmt::format("{}{}", i, kSuffix)) != files.end(),
          "{}: without a *{}, 0{}, 1{}, ... up to {}{} are needed; found {}", folder.string(), kIndexSuffix, kSuffix,
          kSuffix, files.size() - 1, kSuffix, names_of(files));
}

/// m-00001-of-00003.safetensors and its like tell how many they are.
void check_told_parts(const fs::path& folder, const std::vector<fs::path>& files) {
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kMostDigits = 5;
  for (const fs::path& file : files) {
    const std::string stem = file.stem().string();
    const size_t of = stem.rfind(kOf), dash = of == std::string::npos ? of : stem.rfind('-', of - 1);
    if (of == std::string::npos || dash == std::string::npos || dash + 1 == of) continue;
    const std::string count = stem.substr(of + kOf.size());
    if (!is_number(count) || count.size() > kMostDigits || !is_number(stem.substr(dash + 1, of - dash - 1))) continue;
    for (int i = 1; i <= std::stoi(count); ++i) {
      const auto name = fmt::format("{}-{:0{}}{}{}{}", stem.substr(0, dash), i, of - dash - 1, kOf, count, kSuffix);
      check(std::ranges::find(files, folder / name) != files.end(), "{}: {} is missing; found {}", folder.string(),
            name, names_of(files));
    }
  }
}

/// Files of a folder without an index: all, if they are of one kind and nothing in their names says that one is
/// missing.
std::vector<fs::path> files_without_index(const fs::path& folder, const std::vector<fs::path>& files) {
  if (std::ranges::all_of(files, is_gguf_name)) return files;  // they say themselves whether they are parts
  check(std::ranges::none_of(files, is_gguf_name),
        "{}: holds *{} and *{}; give one of the files, or a folder of one kind", folder.string(), kSuffix, kGgufSuffix);
  if (std::ranges::any_of(files, [](const fs::path& file) { return is_number(file.stem().string()); }))
    check_numbers(folder, files);
  check_told_parts(folder, files);
  return files;
}

/// llama.cpp cuts large GGUF files into parts that tell how many they are.
void check_parts(const Checkpoint& checkpoint) {
  constexpr const char* kParts = "split.count";
  if (checkpoint.metadata.is_null()) return;
  const std::string where = checkpoint.path.string();
  const int64_t told = JsonFile(where, checkpoint.metadata).integer_or(kParts, 1, 0, kMostParts);
  const int64_t parts = std::max<int64_t>(told, 1);  // 0: whole
  const auto files = static_cast<int64_t>(checkpoint.files.size());
  check(files >= parts, "{}: is {} of {} parts of a GGUF file; give the folder that holds them all", where, files,
        parts);
  check(files <= parts, "{}: must hold one GGUF file or its parts; found {}", where, names_of(checkpoint.files));
}

TensorMap read_stored(Checkpoint& checkpoint) {
  const fs::path& path = checkpoint.path;
  TensorMap stored;
  std::error_code ignored;  // what is no folder is opened as a file, which tells the reason
  if (!fs::is_directory(path, ignored)) {
    checkpoint.files = {path};
  } else {
    const Folder folder = list_folder(path);
    check(folder.indexes.size() <= 1, "{}: holds several indexes ({}), one is needed", path.string(),
          names_of(folder.indexes));
    if (!folder.indexes.empty()) return read_shards(folder.indexes.front(), checkpoint);
    check(!folder.files.empty(), "{}: holds no weights (*{}, *{})", path.string(), kSuffix, kGgufSuffix);
    checkpoint.files = files_without_index(path, folder.files);
  }
  for (const fs::path& file : checkpoint.files) add_file(file, checkpoint, stored);
  check_parts(checkpoint);
  return stored;
}

/// Other families have the same names, but other latents.
void check_family(const Checkpoint& checkpoint) {
  constexpr int64_t kOtherFamily = 128;  // latent features of a token
  const std::string name = "img_in.weight";
  const auto shape = checkpoint.shape_of(name);
  if (shape && shape->rank() == 2 && (*shape)[1] == kOtherFamily)
    fail("{}: takes {} features a token: a model of another family; Qwen-Image's takes 64",
         describe(*checkpoint.find(name), name), kOtherFamily);
}

/// The matrix of a tensor whose blocks say all about it.
PackedWeight packed_blocks(const StoredTensor& tensor, const std::string& name) {
  const BlockLayout& layout = layout_of(*tensor.blocks);
  const Weight weight = {.format = *tensor.blocks,
                         .out = tensor.data.dim(0),
                         .in = tensor.data.dim(1) / layout.bytes * layout.numbers,
                         .data = tensor.data};
  return {weight, {name}};
}

/// With those of LoRAs.
std::set<const MappedFile*> mapped_files(const Checkpoint& checkpoint) {
  std::set<const MappedFile*> mapped;
  for (const auto& [name, tensor] : checkpoint.tensors) mapped.insert(file_of(tensor.data));
  for (const auto& [layer, beside] : checkpoint.branches)
    for (const StoredBranch& branch : beside)
      for (const StoredTensor* tensor : {&branch.down, &branch.up}) mapped.insert(file_of(tensor->data));
  mapped.erase(nullptr);
  return mapped;
}

}  // namespace

const StoredTensor* Checkpoint::find(std::string_view name) const { return inkstone::find(tensors, name); }

std::optional<PackedWeight> Checkpoint::packed(const std::string& layer) const {
  const std::string name = layer + std::string(kWeightSuffix);
  if (const StoredTensor* tensor = find(name); tensor != nullptr && tensor->blocks) return packed_blocks(*tensor, name);
  if (scheme->packed == nullptr) return std::nullopt;
  return scheme->packed(tensors, layer);
}

std::optional<Shape> Checkpoint::shape_of(const std::string& name) const {
  const StoredTensor* tensor = find(name);
  if (tensor == nullptr) return std::nullopt;
  if (name.ends_with(kWeightSuffix)) {
    if (const auto matrix = packed(name.substr(0, name.size() - kWeightSuffix.size())))
      return Shape{matrix->weight.out, matrix->weight.in};
  }
  const Shape& shape = tensor->data.shape();
  if (!scheme->channels_last || shape.rank() <= 2) return shape;
  std::vector<int64_t> dims = {shape[0], shape[-1]};
  for (int i = 1; i + 1 < shape.rank(); ++i) dims.push_back(shape[i]);
  return Shape(dims);
}

bool Checkpoint::has_mixed() const {
  return scheme == &quantized_scheme() &&
         std::ranges::any_of(tensors, [](const auto& tensor) { return tensor.first.ends_with(kMixedFactors); });
}

void Checkpoint::release_pages() const {
  for (const MappedFile* file : mapped_files(*this)) file->release_pages();
}

void Checkpoint::check_unchanged() const {
  for (const MappedFile* file : mapped_files(*this)) file->check_unchanged();
}

Checkpoint open_checkpoint(const fs::path& path, Component component) {
  std::error_code ignored;
  check(fs::exists(path, ignored), "{}: no such file or folder; the {}'s weights are needed", path.string(),
        name_of(component));
  Checkpoint checkpoint{.path = path, .component = component};
  const TensorMap stored = read_stored(checkpoint);
  check(!stored.empty(), "{}: holds no tensors", path.string());

  const auto all = schemes();
  checkpoint.scheme =
      *std::find_if(all.begin(), all.end(), [&](const Scheme* s) { return s->recognises(component, stored); });
  const Renaming renaming = checkpoint.scheme->renaming(component, stored);
  for (const auto& [name, tensor] : stored) {
    const std::string canonical = renaming(name);
    if (canonical.empty()) continue;
    const auto [there, added] = checkpoint.tensors.try_emplace(canonical, tensor);
    check(added, "{}: is the same tensor as {}", describe(tensor, canonical), describe(there->second, canonical));
  }
  check(!checkpoint.tensors.empty(), "{}: holds no {}", path.string(), name_of(component));
  if (component == Component::transformer) check_family(checkpoint);
  return checkpoint;
}

}  // namespace inkstone
