// inkstone encode: a prompt's embeddings in a file.
#include <fmt/format.h>
#include <memory>
#include <spdlog/spdlog.h>

#include "commands.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "progress_bar.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr const char* kFooter =
    R"(Writes F32 tensor `embeds` (tokens, width): what the transformer gets, template rows dropped.

Example:
  inkstone encode --prompt "a red star" --output star.safetensors)";

struct Arguments {
  ModelArguments model;
  std::optional<std::string> prompt, output;
  std::optional<int64_t> max_sequence_length;
};

void run_encode(const Arguments& a) {
  if (!a.prompt) throw UsageError("--prompt: not given, a text is wanted; see inkstone encode --help");
  if (!a.output) throw UsageError("--output: not given, a safetensors file is wanted; see inkstone encode --help");
  const Verbosity verbosity = verbosity_of(a.model);
  set_up_messages(verbosity);
  check_writable_file(*a.output);
  EngineOptions options = {.purpose = Purpose::encode};
  apply(a.model, options);
  Embeddings embeddings;
  run_interruptibly([&](const std::stop_token& stop) {
    Engine engine = Engine::open(options);
    if (const std::string lossy = lossy_line(engine, options, Components::text); !lossy.empty())
      spdlog::info("{}", lossy);
    for (const std::string& line : engine.describe()) spdlog::debug("{}", line);
    embeddings = with_progress(shows_progress(verbosity), [&](const ProgressFunction& progress) {
      return engine.encode({*a.prompt, a.max_sequence_length, progress, stop});
    });
    save_embeddings(*a.output, embeddings);
  });
  for (const std::string& note : embeddings.notes) spdlog::info("note: {}", note);
  spdlog::info("{} tokens of width {}", embeddings.rows, embeddings.width);
  fmt::print("{}\n", *a.output);
}

}  // namespace

void add_encode(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("encode", "Write a prompt's embeddings to a safetensors file.");
  command.group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("--prompt", arguments->prompt, "the text to encode")->type_name("TEXT");
  command.add_option("--output", arguments->output, "where the embeddings go")
      ->type_name("FILE")
      ->check(not_empty("a safetensors file"));
  command.add_option("--max-sequence-length", arguments->max_sequence_length, "cut the prompt to this many tokens")
      ->type_name("N")
      ->check(whole_number(1, kMaxSequenceLength));
  add_model_options(command, arguments->model, Components::text);
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_encode(*arguments); }; });
}

}  // namespace inkstone::cli
