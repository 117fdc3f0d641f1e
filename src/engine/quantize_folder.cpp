#include "engine/quantize_folder.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "core/error.h"
#include "core/mapped_file.h"
#include "engine/calibration.h"
#include "io/atomic_file.h"
#include "io/json.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kPiece = size_t{16} << 20;  // bytes of a tensor that is copied as it is
constexpr const char* kReport = "quantization.json";
constexpr const char *kRecipe = "recipe", *kFiles = "files", *kTensors = "tensors";
constexpr const char *kFormat = "format", *kError = "relative_error", *kWeighted = "weighted";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// As diffusers and transformers name weights.
std::string stem_of(Component component) {
  return component == Component::text_encoder ? "model" : "diffusion_pytorch_model";
}

std::string shard_name(const ComponentJob& job, size_t index) {
  const std::string stem = stem_of(job.files.component);
  const size_t shards = job.plan.shards.size();
  return shards == 1 ? stem + ".safetensors" : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, index + 1, shards);
}

size_t bytes_of(const std::vector<TensorPlan>& shard) {
  size_t sum = 0;
  for (const TensorPlan& tensor : shard) sum += tensor.bytes();
  return sum;
}

/// quantization.json: the recipe, the files that are whole, and the matrices in them.
class Report {
 public:
  Report(const ComponentJob& job, const json& recipe) : path_(job.folder / kReport) {
    if (const auto file = JsonFile::read_if_present(path_)) {
      check(file->has(kRecipe) && file->object()[kRecipe] == recipe,
            "{}: was made from another source or with other options; give another output, or remove this one",
            job.folder.string());
      for (const std::string& name : file->texts(kFiles))
        if (is_there(job.folder / name)) files_.push_back(name);
      for (const auto& [name, tensor] : file->child(kTensors).object().items()) {
        const JsonFile entry = file->child(kTensors).child(name);
        tensors_[name] = {{kFormat, entry.text(kFormat)},
                          {kError, entry.number(kError)},
                          {kWeighted, entry.boolean_or(kWeighted, false)}};
      }
    } else {
      check(!is_there(job.folder / shard_name(job, 0)), "{}: is there already, and no {} tells of it",
            (job.folder / shard_name(job, 0)).string(), kReport);
    }
    recipe_ = recipe;
  }

  bool holds(const std::string& file) const { return std::ranges::find(files_, file) != files_.end(); }

  void add(const TensorPlan& plan, double error) {
    tensors_[plan.name] = {{kFormat, name_of(plan.target)}, {kError, error}, {kWeighted, !plan.importance.empty()}};
  }

  void save(const std::string& finished) {
    files_.push_back(finished);
    save();
  }

  void save() const { write_json(path_, {{kRecipe, recipe_}, {kFiles, files_}, {kTensors, tensors_}}); }

  std::vector<QuantizedTensor> tensors(Component component) const {
    std::vector<QuantizedTensor> all;
    for (const auto& [name, entry] : tensors_.items())
      all.push_back({std::string(name_of(component)), name, entry[kFormat], entry[kError], entry[kWeighted]});
    return all;
  }

 private:
  fs::path path_;
  json recipe_;
  std::vector<std::string> files_;
  json tensors_ = json::object();
};

/// In pieces, so that a stop request need not wait for all of a large tensor, nor is all of it resident at once: a
/// table of tokens in f32 alone is 2.2 GB.
void write_stored(const ComponentJob& job, const TensorPlan& plan, ShardFile& shard, const PieceDone& done) {
  const auto bytes = std::as_bytes(std::span(plan.stored.data<char>(), plan.stored.bytes()));
  for (size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    done(0);
    shard.write(plan.name, begin, bytes.subspan(begin, std::min(kPiece, bytes.size() - begin)));
    job.files.release_pages();
  }
}

void write_shard(const ComponentJob& job, size_t index, Report& report, ThreadPool& pool, const PieceDone& done) {
  const std::vector<TensorPlan>& plans = job.plan.shards[index];
  std::vector<SafetensorsEntry> entries;
  for (const TensorPlan& plan : plans) entries.insert(entries.end(), plan.outputs.begin(), plan.outputs.end());
  ShardFile shard(job.folder / shard_name(job, index), entries, {{"format", "pt"}});  // as others' readers expect
  for (const TensorPlan& plan : plans) {
    job.files.check_unchanged();
    if (plan.target == Target::stored) {
      write_stored(job, plan, shard, done);
      continue;
    }
    const std::string where = describe(*job.files.find(plan.name), plan.name);
    report.add(plan, write_matrix(plan, where, shard, pool, done));
    job.files.release_pages();  // of this matrix: a process may be charged for what it has mapped
  }
  job.files.check_unchanged();
  shard.finish();
  report.save(shard_name(job, index));
}

void write_index(const ComponentJob& job) {
  json map = json::object();
  for (size_t i = 0; i < job.plan.shards.size(); ++i)
    for (const TensorPlan& plan : job.plan.shards[i])
      for (const SafetensorsEntry& e : plan.outputs) map[e.name] = shard_name(job, i);
  write_json(job.folder / (stem_of(job.files.component) + ".safetensors.index.json"),
             {{"metadata", {{"total_size", job.plan.bytes()}}}, {"weight_map", map}});
}

}  // namespace

nlohmann::json recipe_of(const Checkpoint& files, const QuantizeOptions& options) {
  json sources = json::array();
  for (const fs::path& file : files.files) {
    std::error_code ignored;
    const auto changed =
        std::chrono::duration_cast<std::chrono::seconds>(fs::last_write_time(file, ignored).time_since_epoch());
    sources.push_back({{"name", file.filename().string()},
                       {"bytes", fs::file_size(file, ignored)},
                       {"changed", static_cast<int64_t>(changed.count())}});
  }
  json keep = json::array();
  for (const auto& [pattern, format] : options.keep) keep.push_back(pattern + "=" + format);
  json recipe = {
      {"format", options.format}, {"group", options.group.value_or(kUsualGroup)}, {"keep", keep}, {"sources", sources}};
  if (options.layout != QuantizeOptions().layout) recipe["layout"] = options.layout;
  if (!options.calibrate.empty()) recipe["prompts"] = read_prompts(options.calibrate);
  return recipe;
}

std::vector<QuantizedTensor> write_component(const ComponentJob& job, const json& recipe, ThreadPool& pool,
                                             const PieceDone& done) {
  Report report(job, recipe);
  report.save();
  for (size_t i = 0; i < job.plan.shards.size(); ++i) {
    if (!report.holds(shard_name(job, i))) {
      write_shard(job, i, report, pool, done);
      continue;
    }
    for (const TensorPlan& plan : job.plan.shards[i])
      if (plan.target != Target::stored) done(plan.matrix.out * plan.matrix.in);
  }
  if (job.plan.shards.size() > 1) write_index(job);
  return report.tensors(job.files.component);
}

size_t bytes_to_write(const ComponentJob& job, const json& recipe) {
  const Report report(job, recipe);
  size_t sum = 0;
  for (size_t i = 0; i < job.plan.shards.size(); ++i)
    if (!report.holds(shard_name(job, i))) sum += bytes_of(job.plan.shards[i]);
  return sum;
}

void copy_whole(const fs::path& from, const fs::path& to, std::stop_token stop) {
  const auto file = MappedFile::open(from);
  std::error_code ignored;
  if (fs::is_regular_file(to, ignored) && fs::file_size(to, ignored) == file->bytes().size()) return;
  fs::create_directories(to.parent_path(), ignored);
  const auto write = [&](std::ostream& out) {
    out.write(reinterpret_cast<const char*>(file->bytes().data()), static_cast<std::streamsize>(file->bytes().size()));
  };
  write_atomically(to, write, std::move(stop));
}

}  // namespace inkstone
