// The commands of the program. Each adds itself, its options and its help to the command line, and sets `run` when the
// user chose it; run() does the work and throws inkstone::Error, UsageError or Interrupted.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>

namespace inkstone::cli {

using Run = std::function<void()>;

void add_generate(CLI::App& app, Run& run);
void add_plan(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_encode(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_quantize(CLI::App& app, Run& run);
void add_random_model(CLI::App& app, Run& run);

}  // namespace inkstone::cli
