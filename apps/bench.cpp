// inkstone bench: how fast this machine runs the real model's parts.
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "progress_bar.h"
#include "text.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
constexpr double kPercent = 100;
constexpr double kGiga = 1e9;

constexpr const char* kFooter =
    R"(Runs parts of Qwen-Image-2512 in full size on random weights at least five times and gives the median. The share of the
peak is of the f32 (with --arithmetic int8 or half: 8- or 16-bit) rate that the processor reached in the same run, or on
a GPU of the rate of one large product (with --arithmetic fp8 or fp8_all: and of rounding what it multiplies).

Examples:
  inkstone bench block --size 512
  inkstone bench vae --size 256 --json)";

struct Arguments {
  std::string kind;
  BenchOptions options;
  std::optional<int64_t> layers, band_rows;
  std::optional<std::string> device, arithmetic, isa;
  std::optional<int> threads;
  bool as_json = false;
};

BenchKind kind_named(const std::string& name) {
  if (name == "encoder") return BenchKind::encoder;
  return name == "vae" ? BenchKind::vae : BenchKind::block;
}

void print_json(const Arguments& a, const BenchResult& result) {
  nlohmann::ordered_json json = {{"bench", a.kind},
                                 {"size", a.options.size},
                                 {"format", a.options.format},
                                 {"arithmetic", a.arithmetic.value_or("f32")},
                                 {"device", a.device.value_or("cpu")},
                                 {"median_s", result.median_s},
                                 {"gflops", result.gflops},
                                 {"peak_fraction", result.peak_fraction},
                                 {"peak_bytes", result.peak_bytes}};
  if (!result.half_kind.empty()) json["half_kind"] = result.half_kind;
  if (!result.isa.empty()) json["isa"] = result.isa;
  json["threads"] = result.threads;
  json["peak_gflops"] = result.peak / kGiga;
  fmt::print("{}\n", json.dump());
}

/// With what is lossy about it; nothing for f32.
std::string arithmetic_text(const std::string& name, const std::string& half_kind, InstructionSet isa) {
  if (name == "f32") return "";
  if (half_kind == "f32") return fmt::format("{} arithmetic (f32, as {}), ", name, why_not_half(isa));
  const bool tells_kind = !half_kind.empty() && half_kind != name;
  return fmt::format("{} arithmetic ({}lossy), ", name, tells_kind ? half_kind + ", " : "");
}

void print_text(const Arguments& a, const BenchOptions& options, const BenchResult& result) {
  const std::string size =
      options.kind == BenchKind::encoder ? "" : fmt::format(" at {}x{} pixels", options.size, options.size);
  const std::string isa = result.isa.empty() ? "" : result.isa + " ";
  fmt::print(
      "{}{}, {} weights, {}{} ({}on {} thread{}): {}, {:.1f} GFLOP/s, {:.0f} % of a peak of {:.1f}, at most {}\n",
      a.kind, size, options.format, arithmetic_text(a.arithmetic.value_or("f32"), result.half_kind, options.isa),
      a.device.value_or("cpu"), isa, result.threads, result.threads == 1 ? "" : "s", seconds_text(result.median_s),
      result.gflops, kPercent * result.peak_fraction, result.peak / kGiga, bytes_text(result.peak_bytes));
  fmt::print("{}", result.profile);
}

void run_bench_command(const Arguments& a) {
  BenchOptions options = a.options;
  options.kind = kind_named(a.kind);
  if (a.layers && options.kind == BenchKind::vae)
    throw UsageError(fmt::format("--layers {}: the vae is measured whole; block or encoder takes it", *a.layers));
  options.layers = a.layers.value_or(options.layers);
  if (a.band_rows && options.kind != BenchKind::vae)
    throw UsageError(fmt::format("--band-rows {}: {} has no bands; vae takes it", *a.band_rows, a.kind));
  options.band_rows = a.band_rows.value_or(options.band_rows);
  if (a.device) options.device = device_named(*a.device);
  if (a.arithmetic) options.arithmetic = arithmetic_named(*a.arithmetic);
  if (a.device) options.device_index = cuda_index(*a.device).value_or(0);
  if (a.isa) options.isa = isa_named(*a.isa);
  options.threads = a.threads.value_or(0);
  BenchResult result;
  run_interruptibly([&](const std::stop_token& stop) {
    options.stop = stop;
    result = with_progress(shows_progress(Verbosity::normal), [&](const ProgressFunction& progress) {
      options.progress = progress;
      return run_bench(options);
    });
  });
  if (a.as_json) return print_json(a, result);
  print_text(a, options, result);
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("bench", "Measure parts of the real model on this machine.");
  command.group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("KIND", arguments->kind, "block (of the transformer), encoder (of text) or vae (decoder)")
      ->type_name("")
      ->check(one_of({"block", "encoder", "vae"}))
      ->required();
  command.add_option("--size", arguments->options.size, "width and height of the picture in pixels; default 512")
      ->type_name("N")
      ->check(whole_number(1, kMaxSide));
  command.add_option("--layers", arguments->layers, "blocks or encoder layers in a row; default 1")
      ->type_name("N")
      ->check(whole_number(1, kMaxBenchLayers));
  command.add_option("--band-rows", arguments->band_rows, "rows of latents that vae decodes at a time; default all")
      ->type_name("N")
      ->check(whole_number(1, kNoLimit));
  command
      .add_option("--format", arguments->options.format,
                  "of the weights: f32 (default), f16, bf16, int8, int4; int8_cpu, int4_cpu: of --layout cpu")
      ->type_name("NAME")
      ->check(one_of({"f32", "f16", "bf16", "int8", "int4", "int8_cpu", "int4_cpu"}));
  command.add_flag("--profile", arguments->options.profile, "print a table of the time that each op took in all runs");
  command.add_flag("--json", arguments->as_json, "print JSON");
  add_device_option(command, arguments->device);
  add_arithmetic_option(command, arguments->arithmetic, Components::all);
  add_isa_option(command, arguments->isa);
  add_threads_option(command, arguments->threads);
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_bench_command(*arguments); }; });
}

}  // namespace inkstone::cli
