// inkstone random-model: a folder of random weights, for rehearsals.
#include <fmt/format.h>
#include <limits>
#include <memory>

#include "commands.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "progress_bar.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

constexpr const char* kFooter =
    R"(Such a model draws nothing sensible, but takes the memory, the time and the disk of a real one. Its tokenizer is that of
the shipped model, which needs about as many tokens as there are letters.

Examples:
  inkstone random-model --preset qwen-image-2512 --format int4 --output rehearsal
  inkstone plan --model rehearsal --size 1024x1024 --memory 8G)";

struct Arguments {
  RandomModelOptions options;
  std::optional<std::string> output;
  std::optional<int> threads;
};

void run_random_model(const Arguments& a) {
  if (!a.output) throw UsageError("--output: not given, a new folder is wanted; see inkstone random-model --help");
  RandomModelOptions options = a.options;
  options.threads = a.threads.value_or(0);
  run_interruptibly([&](const std::stop_token& stop) {
    options.stop = stop;
    with_progress(shows_progress(Verbosity::normal), [&](const ProgressFunction& progress) {
      options.progress = progress;
      write_random_model(*a.output, options);
    });
  });
  fmt::print("{}\n", *a.output);
}

}  // namespace

void add_random_model(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("random-model", "Write a model of random weights, for rehearsals.");
  command.group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  RandomModelOptions& options = arguments->options;
  command.add_option("--preset", options.preset, "whose sizes: qwen-image-2512 (default) or tiny")
      ->type_name("NAME")
      ->check(one_of({"qwen-image-2512", "tiny"}));
  command
      .add_option("--format", options.format,
                  "of the weights: f32, f16, bf16 (default), fp8, int8, int4; int8_cpu, int4_cpu: layout cpu")
      ->type_name("NAME")
      ->check(one_of({"f32", "f16", "bf16", "fp8", "int8", "int4", "int8_cpu", "int4_cpu"}));
  command.add_option("--layers", options.layers, "so many blocks instead of all, for a smaller folder")
      ->type_name("N")
      ->check(whole_number(1, kNoLimit));
  command.add_option("-o,--output", arguments->output, "folder to make")
      ->type_name("DIR")
      ->check(not_empty("a folder"));
  add_threads_option(command, arguments->threads);
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_random_model(*arguments); }; });
}

}  // namespace inkstone::cli
