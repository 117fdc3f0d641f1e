// inkstone generate: pictures from a prompt.
#include <algorithm>
#include <array>
#include <chrono>
#include <fmt/format.h>
#include <memory>
#include <random>
#include <spdlog/spdlog.h>

#include "commands.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "picture_paths.h"
#include "plan_text.h"
#include "progress_bar.h"
#include "text.h"
#include "timeline_text.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFooter =
    R"(The picture's path goes to standard output; messages go to standard error. The picture itself carries what made
it, so that --like can make it again; --output replaces a file that is there.

Examples:
  inkstone generate --prompt "a red star" --output star.png
  inkstone generate --prompt "a red star" --seed 7 --count 4 --output star.png    star-1.png (seed 7) to star-4.png
  inkstone generate --like star.png --steps 30 --output finer.png                 the same picture with more steps
  inkstone generate --model ~/Qwen-Image-2512 --prompt "a quiet harbour at dawn" --size 1328x1328 --output harbour.webp)";

constexpr const char* kPlanFooter =
    R"(Options are those of generate. Nothing is computed. Exit code 1 if it does not fit; the message says what would.

Examples:
  inkstone plan --model ~/Qwen-Image-2512 --size 1328x1328
  inkstone plan --model ~/Qwen-Image-2512 --size 1024x1024 --count 4 --memory 8G)";

constexpr std::array<std::pair<std::string_view, Preset>, 2> kPresets = {
    {{"lightning-4", Preset::lightning_4}, {"lightning-8", Preset::lightning_8}}};

struct Arguments {
  ModelArguments model;
  std::optional<std::string> like, prompt, negative_prompt, size, output, noise, save_latents, preview, preset;
  std::optional<double> cfg;
  std::optional<int64_t> steps, width, height, count, max_sequence_length, preview_every;
  std::optional<uint64_t> seed;
  bool profile = false;
};

void add_picture_options(CLI::App& command, Arguments& a) {
  const auto group = [](CLI::Option* option) { return option->group("Picture"); };
  group(command.add_option("--prompt", a.prompt, "what the picture shows; needed unless --like is given"))
      ->type_name("TEXT");
  group(
      command.add_option("--negative-prompt", a.negative_prompt, "what it should not show; counts if --cfg is above 1"))
      ->type_name("TEXT");
  group(command.add_option("--size", a.size, "WIDTHxHEIGHT in pixels; without it the model's usual size"))
      ->type_name("WxH")
      ->check(size_text());
  group(command.add_option("--width", a.width, "pixels; with --height the same as --size"))
      ->type_name("N")
      ->check(whole_number(1, kMaxSide));
  group(command.add_option("--height", a.height, "pixels; with --width the same as --size"))
      ->type_name("N")
      ->check(whole_number(1, kMaxSide));
  group(command.add_option("--steps", a.steps, "more are finer and slower; without it the model's usual number"))
      ->type_name("N")
      ->check(whole_number(1, kMaxSteps));
  group(command.add_option("--preset", a.preset,
                           "steps, schedule and --cfg 1 for a Lightning model or LoRA: lightning-4 or lightning-8"))
      ->type_name("NAME")
      ->check(one_of({"lightning-4", "lightning-8"}));
  group(command.add_option("--cfg", a.cfg,
                           "how closely to follow the prompt; 1 takes half the time, without negative prompt"))
      ->type_name("X")
      ->check(number(1, kMaxCfg));
  group(command.add_option("--seed", a.seed, "the same seed gives the same picture; without it a new one each time"))
      ->type_name("N")
      ->check(seed_number());
  group(command.add_option("--count", a.count, "pictures to make; picture i has seed + i"))
      ->type_name("N")
      ->check(whole_number(1, kMaxPictures));
  group(command.add_option("--like", a.like, "a picture made by inkstone: its values, except those given here"))
      ->type_name("PICTURE")
      ->check(not_empty("a picture"));
  group(command.add_option("--max-sequence-length", a.max_sequence_length, "cut the prompt to this many tokens"))
      ->type_name("N")
      ->check(whole_number(1, kMaxSequenceLength));
}

void add_file_options(CLI::App& command, Arguments& a) {
  const auto group = [](CLI::Option* option) { return option->group("Files"); };
  group(command.add_option("--output", a.output,
                           ".png, .jpg or .webp; --count adds numbers; default inkstone-SEED.png (or -NOISE.png)"))
      ->type_name("FILE")
      ->check(not_empty("a file name"))
      ->check(picture_name());
  group(command.add_option("--preview", a.preview,
                           "while it is drawn, what it looks like so far, small; named as --output is"))
      ->type_name("FILE")
      ->check(not_empty("a file name"))
      ->check(picture_name());
  group(command.add_option("--preview-every", a.preview_every, "steps from one preview to the next; default 1"))
      ->type_name("N")
      ->check(whole_number(1, kMaxSteps));
  group(command.add_option("--noise", a.noise, "start from tensor `noise` of this file instead of the seed's"))
      ->type_name("FILE")
      ->check(not_empty("a safetensors file"));
  group(command.add_option("--save-latents", a.save_latents, "write the last step's latents as tensor `latents`"))
      ->type_name("FILE")
      ->check(not_empty("a safetensors file"));
}

void apply_size(const Arguments& a, Request& request) {
  if (a.size && (a.width || a.height))
    throw UsageError(fmt::format("--size {}: --width and --height say the same; give one or the other", *a.size));
  if (a.width.has_value() != a.height.has_value())
    throw UsageError(
        fmt::format("{}: {} is wanted beside it", a.width ? "--width" : "--height", a.width ? "--height" : "--width"));
  if (a.size) std::tie(request.width, request.height) = parse_size(*a.size);
  if (a.width) request.width = a.width;
  if (a.height) request.height = a.height;
}

/// A preset's own steps and cfg go over those of --like.
void apply_preset(const std::string& name, Request& request) {
  request.preset =
      std::find_if(kPresets.begin(), kPresets.end(), [&](const auto& preset) { return preset.first == name; })->second;
  request.steps = std::nullopt;
  request.cfg = std::nullopt;
}

/// The seed draws the noise, or a file has it.
void check_seed(const Arguments& a, const Request& request) {
  if (a.seed && a.noise)
    throw UsageError(
        fmt::format("--seed {}: without effect beside --noise {}; one of them is wanted", *a.seed, *a.noise));
  if (request.noise.empty() && request.seed > largest_seed(request.count))
    throw UsageError(fmt::format("--count {}: picture i has seed + i, so the largest seed is {}; {} given",
                                 request.count, largest_seed(request.count), request.seed));
}

/// What the user gave, over what --like says.
Request request_of(const Arguments& a, EngineOptions& options) {
  if (!a.prompt && !a.like)
    throw UsageError("--prompt: not given, a text is wanted (or --like PICTURE); see inkstone generate --help");
  apply(a.model, options);
  Request request = a.like ? request_like(*a.like, options) : Request{};
  apply(a.model, options);  // once more: what the picture was made with gives way to what the user gave
  options.profile = a.profile;
  apply_size(a, request);
  if (a.prompt) request.prompt = *a.prompt;
  if (a.negative_prompt) request.negative_prompt = a.negative_prompt;
  if (a.preset) apply_preset(*a.preset, request);
  if (a.cfg) request.cfg = a.cfg;
  if (a.steps) request.steps = a.steps;
  if (a.max_sequence_length) request.max_sequence_length = a.max_sequence_length;
  if (a.noise) request.noise = *a.noise;
  if (a.seed && !a.noise) request.noise.clear();               // of --like
  if (a.noise || a.count) request.noise_index = std::nullopt;  // of --like
  if (a.save_latents) request.save_latents = *a.save_latents;
  if (a.preview_every && !a.preview)
    throw UsageError(fmt::format("--preview-every {}: --preview FILE is wanted beside it", *a.preview_every));
  if (a.preview_every) request.preview_every = *a.preview_every;
  if (a.count) request.count = *a.count;
  if (a.seed) request.seed = *a.seed;
  check_seed(a, request);
  if (!a.seed && !a.like && !a.noise) request.seed = std::random_device()();  // 32 bits: torch's generator uses no more
  return request;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void report(const Result& result, double total) {
  for (const std::string& note : result.notes) spdlog::info("note: {}", note);
  if (!result.profile.empty()) spdlog::info("{}", result.profile);
  for (const std::string& line : timeline_lines(result.timeline)) spdlog::debug("{}", line);
  std::string times;
  for (const StageTime& time : result.times)
    times += fmt::format("{} {}, ", name_of(time.stage), seconds_text(time.seconds));
  spdlog::info("{}total {}; at most {} of tensors", times, seconds_text(total), bytes_text(result.peak_bytes));
}

bool is_same_file(const fs::path& a, const fs::path& b) {
  return fs::absolute(a).lexically_normal() == fs::absolute(b).lexically_normal();
}

/// The picture would replace latents written to the same file, and latents the noise that they are made of.
void check_output(const fs::path& path, const Request& request) {
  const auto check_latents = [&](const fs::path& other, const char* what) {
    if (!request.save_latents.empty() && !other.empty() && is_same_file(other, request.save_latents))
      throw UsageError(
          fmt::format("--save-latents {}: {} there; another file is wanted", request.save_latents.string(), what));
  };
  check_latents(path, "the picture goes");
  check_latents(request.noise, "the noise lies");
  check_writable(path, request.prompt.size() + request.negative_prompt.value_or("").size());
}

std::vector<fs::path> preview_paths(const std::optional<std::string>& preview, const Request& request,
                                    const std::vector<fs::path>& pictures) {
  if (!preview) return {};
  std::vector<fs::path> paths = picture_paths(preview, request);
  for (size_t i = 0; i < paths.size(); ++i) {
    if (is_same_file(paths[i], pictures[i]))
      throw UsageError(fmt::format("--preview {}: the picture goes there; another file is wanted", paths[i].string()));
    check_output(paths[i], request);
  }
  return paths;
}

/// Writes each over the one before; counts in `files` those that are there.
PreviewFunction write_previews(const std::vector<fs::path>& paths, const std::stop_token& stop, size_t& files) {
  if (paths.empty()) return {};
  return [&paths, stop, &files](const Preview& preview) {
    save_picture(paths[static_cast<size_t>(preview.picture)],
                 {.width = preview.width, .height = preview.height, .rgb = preview.rgb}, stop);
    ++files;
  };
}

/// The engine may have written latents.
void add_writing(std::vector<StageTime>& times, double seconds) {
  if (times.empty() || times.back().stage != Stage::write) times.push_back({Stage::write});
  times.back().seconds += seconds;
}

/// Counts the pictures in `files` as they are written.
void write_pictures(const std::vector<Picture>& pictures, const std::vector<fs::path>& paths,
                    const std::stop_token& stop, size_t& files) {
  for (size_t i = 0; i < pictures.size(); ++i, ++files) {
    save_picture(paths[i], pictures[i], stop);
    fmt::print("{}\n", paths[i].string());
  }
}

/// Where someone looks on: scripts get no more than they asked for.
bool shows_plan(Verbosity verbosity) { return verbosity == Verbosity::verbose || shows_progress(verbosity); }

void run_generate(const Arguments& a) {
  const auto start = std::chrono::steady_clock::now();
  const Verbosity verbosity = verbosity_of(a.model);
  set_up_messages(verbosity);
  EngineOptions options;
  Request request = request_of(a, options);
  const std::vector<fs::path> paths = picture_paths(a.output, request);
  for (const fs::path& path : paths) check_output(path, request);
  const std::vector<fs::path> previews = preview_paths(a.preview, request, paths);
  size_t files = 0;  // that were written, whole
  const auto work = [&](const std::stop_token& stop) {
    request.stop = stop;
    request.preview = write_previews(previews, stop, files);
    Engine engine = Engine::open(options);
    if (const std::string lossy = lossy_line(engine, options, Components::all); !lossy.empty())
      spdlog::info("{}", lossy);
    for (const std::string& line : engine.describe()) spdlog::debug("{}", line);
    if (shows_plan(verbosity)) spdlog::info("{}", plan_line(engine.plan(request)));
    Result result = with_progress(shows_progress(verbosity), [&](const ProgressFunction& progress) {
      request.progress = progress;
      return engine.generate(request);
    });
    if (!request.save_latents.empty()) ++files;
    if (!a.seed && !a.like && request.noise.empty()) spdlog::info("seed {}", request.seed);
    const auto write_start = std::chrono::steady_clock::now();
    write_pictures(result.pictures, paths, stop, files);
    add_writing(result.times, seconds_since(write_start));
    report(result, seconds_since(start));
  };
  try {
    run_interruptibly(work);
  } catch (const Interrupted& e) {
    if (files > 0) throw Interrupted(e.signal(), "interrupted; the files that were written before are whole");
    throw;
  }
}

void run_plan(const Arguments& a, bool as_json) {
  set_up_messages(verbosity_of(a.model));
  EngineOptions options;
  Arguments given = a;
  if (!a.like && !a.prompt) given.prompt = "";
  Request request = request_of(given, options);
  Plan plan;
  run_interruptibly([&](const std::stop_token& stop) {
    request.stop = stop;
    plan = Engine::open(options).plan(request);
  });
  fmt::print("{}", as_json ? plan_json(plan) : plan_table(plan));
}

}  // namespace

void add_plan(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("plan", "Say what memory generate would need, and how it would fit.");
  command.group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  const auto as_json = std::make_shared<bool>(false);
  add_picture_options(command, *arguments);
  command.get_option("--prompt")->description("what the picture shows; longer ones take more memory");
  add_model_options(command, arguments->model, Components::all);
  command.add_flag("--json", *as_json, "print JSON");
  command.footer(kPlanFooter);
  command.callback([arguments, as_json, &run] { run = [arguments, as_json] { run_plan(*arguments, *as_json); }; });
}

void add_generate(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("generate", "Make pictures from a prompt.")->group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  add_picture_options(command, *arguments);
  add_file_options(command, *arguments);
  add_model_options(command, arguments->model, Components::all);
  command.add_flag("--profile", arguments->profile, "print a table of the time that each op took")
      ->group("How to run it");
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_generate(*arguments); }; });
}

}  // namespace inkstone::cli
