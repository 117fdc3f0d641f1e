// inkstone quantize: a model's weights in fewer bits, in files of their own.
#include "inkstone/quantize.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>
#include <spdlog/spdlog.h>

#include "commands.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "progress_bar.h"
#include "text.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr size_t kWorst = 10;  // matrices that are listed; quantization.json has all
constexpr double kPercent = 100;
constexpr std::array<std::string_view, 6> kKeptFormats = {"int4", "int8", "fp8", "bf16", "f32", "stored"};

constexpr const char* kFooter =
    R"(Writes a folder that --model, --transformer or --text-encoder takes. A run that was stopped or killed goes on when the
same command is given again. The folder's quantization.json has the error of every matrix.

Examples:
  inkstone quantize ~/Qwen-Image-2512 --format int4 --output ~/Qwen-Image-2512-int4
  inkstone quantize model.safetensors --format int8 --keep "*_mod.1.*=bf16" --output model-int8)";

struct Arguments {
  QuantizeOptions options;
  std::vector<std::string> keep;
  std::optional<std::string> output;
  std::optional<int> threads;
  bool quiet = false;
};

std::pair<std::string, std::string> kept(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::string format = equals == std::string::npos ? "" : text.substr(equals + 1);
  if (equals == 0 || std::ranges::find(kKeptFormats, format) == kKeptFormats.end())
    throw UsageError(
        fmt::format("--keep: '{}' given, PATTERN=FORMAT wanted, such as \"norm_out.*=bf16\", FORMAT one of {}", text,
                    fmt::join(kKeptFormats, ", ")));
  return {text.substr(0, equals), format};
}

void print_result(const QuantizeResult& result, const std::string& format) {
  spdlog::info("{}, lossy: matrices are rounded; quantization.json has the error of each", format);
  for (const std::string& note : result.notes) spdlog::info("note: {}", note);
  fmt::print("{} to {} in {} matrices; the greatest relative errors:\n", bytes_text(result.source_bytes),
             bytes_text(result.bytes), result.tensors.size());
  for (size_t i = 0; i < std::min(kWorst, result.tensors.size()); ++i) {
    const QuantizedTensor& t = result.tensors[i];
    fmt::print("  {:7.4f} %  {:<5} {} {}{}\n", kPercent * t.error, t.format, t.component, t.name,
               t.weighted ? " (weighted)" : "");
  }
}

void run_quantize(const Arguments& a) {
  if (!a.output) throw UsageError("--output: not given, a folder is wanted; see inkstone quantize --help");
  QuantizeOptions options = a.options;
  options.output = *a.output;
  options.threads = a.threads.value_or(0);
  for (const std::string& text : a.keep) options.keep.push_back(kept(text));
  const Verbosity verbosity = a.quiet ? Verbosity::quiet : Verbosity::normal;
  set_up_messages(verbosity);
  QuantizeResult result;
  try {
    run_interruptibly([&](const std::stop_token& stop) {
      options.stop = stop;
      result = with_progress(shows_progress(verbosity), [&](const ProgressFunction& progress) {
        options.progress = progress;
        return quantize(options);
      });
    });
  } catch (const Interrupted& e) {
    throw Interrupted(e.signal(), "interrupted; the same command goes on with the files that are missing");
  }
  print_result(result, options.format);
}

}  // namespace

void add_quantize(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("quantize", "Write a model's weights in fewer bits.")->group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("SRC", arguments->options.source, "a model's folder, or a transformer's or text encoder's files")
      ->type_name("")
      ->required()
      ->check(not_empty("a folder or a file"));
  command.add_option("--format", arguments->options.format, "of matrices: int4, int8, fp8 or bf16")
      ->type_name("FORMAT")
      ->capture_default_str()
      ->check(one_of({"int4", "int8", "fp8", "bf16"}));
  command
      .add_option("--group", arguments->options.group,
                  "inputs that share a scale (int4, int8, not --layout cpu): 32, 64 or 128; default 64")
      ->type_name("N")
      ->check(one_of({"32", "64", "128"}));
  command
      .add_option("--layout", arguments->options.layout,
                  "rows, or cpu: int8 and int4 as --arithmetic int8 and int8_all read them")
      ->type_name("NAME")
      ->capture_default_str()
      ->check(one_of({"rows", "cpu"}));
  command.add_option("--keep", arguments->keep, "another format, f32 or stored for the tensors that match")
      ->type_name("PATTERN=FORMAT")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--calibrate", arguments->options.calibrate,
                  "prompts, one a line, that SRC draws: what they send through a layer weighs its errors")
      ->type_name("FILE")
      ->check(not_empty("a file"));
  command.add_option("--output,-o", arguments->output, "the folder to write")
      ->type_name("DIR")
      ->check(not_empty("a folder"));
  add_threads_option(command, arguments->threads);
  command.add_flag("--quiet", arguments->quiet, "print errors and the result only");
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_quantize(*arguments); }; });
}

}  // namespace inkstone::cli
