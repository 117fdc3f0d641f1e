// inkstone::quantize: which components a source has, what is copied beside them, and the room that it takes.
#include "inkstone/quantize.h"

#include <algorithm>
#include <array>
#include <functional>
#include <mutex>
#include <system_error>

#include "core/host_memory.h"
#include "core/option_error.h"
#include "engine/calibration.h"
#include "engine/component_totals.h"
#include "engine/quantize_folder.h"
#include "engine/timing.h"
#include "io/atomic_file.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kStep = int64_t{1} << 24;  // numbers of a step of progress
constexpr float kLeastImportance = 1e-3f;    // beside a mean of 1
constexpr std::array<Component, 3> kComponents = {Component::transformer, Component::text_encoder, Component::vae};

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_model(const fs::path& path) {
  return std::ranges::any_of(kComponents, [&](Component c) { return is_folder(path / name_of(c)); });
}

/// The components of a folder or file that is no model's folder; each opens under its own names only.
std::vector<Checkpoint> open_all(const fs::path& path) {
  std::error_code ignored;
  check(fs::exists(path, ignored), "{}: no such file or folder; a transformer's or text encoder's weights are needed",
        path.string());
  std::vector<Checkpoint> found;
  std::string reason = "holds no transformer and no text encoder";
  for (const Component component : kComponents) {
    try {
      Checkpoint files = open_checkpoint(path, component);
      if (files.find(telling_tensor(component)) != nullptr) found.push_back(std::move(files));
    } catch (const Error& e) {
      reason = e.what();
    }
  }
  check(!found.empty(), "{}", reason.starts_with(path.string()) ? reason : path.string() + ": " + reason);
  check(found.front().component != Component::vae,
        "{}: holds a VAE alone, which is not converted; a transformer or text encoder is needed", path.string());
  return found;
}

/// The VAE of a model's folder is copied as it is.
std::vector<Checkpoint> open_parts(const fs::path& path) {
  if (!is_model(path)) return open_all(path);
  std::vector<Checkpoint> found;
  for (const Component component : {Component::transformer, Component::text_encoder})
    if (is_folder(path / name_of(component))) found.push_back(open_checkpoint(path / name_of(component), component));
  check(!found.empty(), "{}: holds no {}/ and no {}/", path.string(), name_of(Component::transformer),
        name_of(Component::text_encoder));
  return found;
}

void check_output(const fs::path& source, const fs::path& output) {
  check_option(!output.empty(), "output: a folder is needed");
  std::error_code error;
  check(!fs::exists(output, error) || is_folder(output), "{}: is a file; a folder is needed for the output",
        output.string());
  const fs::path from = is_folder(source) ? source : source.parent_path();
  check(!fs::equivalent(from.empty() ? "." : from, output, error), "{}: holds the source; another folder is needed",
        output.string());
}

std::vector<ComponentJob> make_jobs(const QuantizeOptions& options, const TargetRules& rules) {
  std::vector<Checkpoint> parts = open_parts(options.source);
  const bool own_folders = is_model(options.source) || parts.size() > 1;
  std::vector<ComponentJob> jobs;
  for (Checkpoint& files : parts) {
    check(files.component != Component::vae || !files.scheme->channels_last,
          "{}: is a VAE of mflux, which is not converted; a transformer or text encoder is needed",
          files.path.string());
    ComponentPlan plan = plan_component(files, rules);
    jobs.push_back({.files = std::move(files), .plan = std::move(plan), .folder = options.output});
    if (own_folders) jobs.back().folder /= name_of(jobs.back().files.component);
  }
  check(!rules.for_cpu() || std::ranges::any_of(jobs, [](const ComponentJob& job) { return job.plan.has_mixed(); }),
        "layout cpu: is one of matrices in int8 and int4; {} has none with --format {} that are multiplied in 8 bits",
        options.source.string(), options.format);
  return jobs;
}

/// A pattern that matches nothing is a slip that would cost hours.
void check_keep(const std::vector<ComponentJob>& jobs, const QuantizeOptions& options) {
  for (const auto& [pattern, format] : options.keep) {
    const auto is_meant = [&wanted = pattern](const TensorPlan& tensor) { return matches(wanted, tensor.name); };
    const bool any = std::ranges::any_of(jobs, [&](const ComponentJob& job) {
      return std::ranges::any_of(job.plan.shards,
                                 [&](const auto& shard) { return std::ranges::any_of(shard, is_meant); });
    });
    check_option(any, "keep {}={}: no tensor of {} has such a name; * stands for any text, as in *.attn.to_q.weight",
                 pattern, format, options.source.string());
  }
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

/// What a model's folder has beside the components that are written, vae/, tokenizer/, scheduler/, model_index.json: as
/// paths from there.
std::vector<fs::path> files_beside(const fs::path& model) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model)) {
    const fs::path name = entry.path().filename();
    if (name == name_of(Component::transformer) || name == name_of(Component::text_encoder) || is_hidden(name))
      continue;
    if (entry.is_regular_file()) files.push_back(name);
    if (!entry.is_directory()) continue;
    for (const auto& inner : fs::directory_iterator(entry.path()))
      if (inner.is_regular_file() && !is_hidden(inner.path())) files.push_back(name / inner.path().filename());
  }
  return files;
}

/// Bytes of those that are not in the output yet.
size_t bytes_beside(const fs::path& model, const fs::path& output) {
  size_t bytes = 0;
  std::error_code ignored;
  for (const fs::path& file : files_beside(model)) {
    const size_t size = fs::file_size(model / file, ignored);
    if (!fs::exists(output / file, ignored) || fs::file_size(output / file, ignored) != size) bytes += size;
  }
  return bytes;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "{}: cannot make the folder: {}", folder.string(), error.message());
}

/// Gives the bytes of weights that are still to write.
size_t check_disk(const std::vector<ComponentJob>& jobs, const QuantizeOptions& options) {
  size_t needed = 0;
  for (const ComponentJob& job : jobs) needed += bytes_to_write(job, recipe_of(job.files, options));
  const size_t beside = is_model(options.source) ? bytes_beside(options.source, options.output) : 0;
  check_room(options.output, needed + beside);
  return needed;
}

/// The configuration beside a component's weights.
void copy_config(const ComponentJob& job, const std::stop_token& stop) {
  const fs::path folder = is_folder(job.files.path) ? job.files.path : job.files.path.parent_path();
  std::error_code ignored;
  for (const char* name : {"config.json", "generation_config.json"})
    if (fs::is_regular_file(folder / name, ignored)) copy_whole(folder / name, job.folder / name, stop);
}

/// Counts numbers, reports steps and stops the work.
class Meter {
 public:
  Meter(const QuantizeOptions& options, int64_t numbers) : options_(options), numbers_(numbers) { report(0); }

  void add(int64_t numbers) {
    if (options_.stop.stop_requested()) throw Cancelled();
    const std::lock_guard lock(mutex_);
    const int64_t before = done_ / kStep;
    done_ += numbers;
    if (done_ / kStep != before || (numbers > 0 && done_ == numbers_)) report(seconds_since(start_));
  }

 private:
  void report(double seconds) const {
    if (!options_.progress) return;
    Progress p = {.stage = Stage::write, .step = (done_ + kStep - 1) / kStep, .steps = (numbers_ + kStep - 1) / kStep};
    p.memory_bytes = resident_memory();
    if (p.step > 0) p.seconds_per_step = seconds / static_cast<double>(p.step);
    p.seconds_left = p.seconds_per_step * static_cast<double>(p.steps - p.step);
    options_.progress(p);
  }

  const QuantizeOptions& options_;
  int64_t numbers_;
  int64_t done_ = 0;  // guarded by mutex_
  std::mutex mutex_;
  Clock::time_point start_ = Clock::now();
};

/// Importance as parts of its mean. Inputs that were never met must not have any error.
std::vector<float> importance_of(std::vector<float> squares) {
  double sum = 0;
  for (const float square : squares) sum += square;
  if (!(sum > 0)) return {};
  for (float& square : squares)
    square = static_cast<float>(square * static_cast<double>(squares.size()) / sum) + kLeastImportance;
  return squares;
}

void weigh(std::vector<ComponentJob>& jobs, const InputSquares& squares) {
  for (ComponentJob& job : jobs)
    for (std::vector<TensorPlan>& shard : job.plan.shards)
      for (TensorPlan& tensor : shard)
        if (tensor.target == Target::int4 || tensor.target == Target::int8)
          tensor.importance =
              importance_of(squares.means(tensor.name.substr(0, tensor.name.size() - kWeightSuffix.size())));
}

}  // namespace

QuantizeResult quantize(const QuantizeOptions& options) {
  const TargetRules rules(options);
  std::vector<ComponentJob> jobs = make_jobs(options, rules);
  check_keep(jobs, options);
  std::unique_ptr<Calibration> calibration;
  if (!options.calibrate.empty()) calibration = std::make_unique<Calibration>(options);
  check_output(options.source, options.output);
  const size_t to_write = check_disk(jobs, options);
  make_folder(options.output);  // a fault of it is told before the calibration's work
  if (to_write > 0 && calibration) weigh(jobs, calibration->run());
  calibration.reset();
  QuantizeResult result;
  int64_t numbers = 0;
  for (const ComponentJob& job : jobs) {
    numbers += job.plan.numbers();
    result.source_bytes += job.plan.source_bytes();
    result.bytes += job.plan.bytes();
    result.notes.insert(result.notes.end(), job.plan.notes.begin(), job.plan.notes.end());
  }
  Meter meter(options, numbers);
  ThreadPool pool(options.threads > 0 ? options.threads : usable_processors());
  pool.watch(options.stop);
  for (const ComponentJob& job : jobs) {
    std::error_code ignored;  // the first file will tell
    fs::create_directories(job.folder, ignored);
    copy_config(job, options.stop);
    const auto tensors = write_component(job, recipe_of(job.files, options), pool, [&](int64_t n) { meter.add(n); });
    result.tensors.insert(result.tensors.end(), tensors.begin(), tensors.end());
  }
  if (is_model(options.source))
    for (const fs::path& file : files_beside(options.source))
      copy_whole(options.source / file, options.output / file, options.stop);
  std::ranges::stable_sort(result.tensors, std::greater(), &QuantizedTensor::error);
  return result;
}

}  // namespace inkstone
