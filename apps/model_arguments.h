// The options that say which model to open and how to run it, the same for every command that runs one.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "inkstone/inkstone.h"

#include "messages.h"

namespace inkstone::cli {

/// What the user gave; what is absent stays as it is.
struct ModelArguments {
  std::optional<std::string> model, transformer, text_encoder, vae, tokenizer;
  std::optional<std::string> device, dtype, arithmetic, isa, compare, memory, prompt_cache;
  std::optional<int> threads;
  std::vector<std::string> loras;
  bool lora_partial = false;
  bool quiet = false;
  bool verbose = false;
};

enum class Components : uint8_t { all, text };

/// `components`: which of them the command reads.
void add_model_options(CLI::App& command, ModelArguments& arguments, Components components);

CLI::Option* add_model_option(CLI::App& command, std::optional<std::string>& model);
CLI::Option* add_tokenizer_option(CLI::App& command, std::optional<std::string>& tokenizer);
CLI::Option* add_device_option(CLI::App& command, std::optional<std::string>& device);
CLI::Option* add_arithmetic_option(CLI::App& command, std::optional<std::string>& arithmetic, Components components);
CLI::Option* add_isa_option(CLI::App& command, std::optional<std::string>& isa);
CLI::Option* add_threads_option(CLI::App& command, std::optional<int>& threads);

/// Overwrites what the user gave.
void apply(const ModelArguments& arguments, EngineOptions& options);

Arithmetic arithmetic_named(const std::string& name);
/// Everything lossy about what an engine does, for the first line of output; empty if nothing is.
std::string lossy_line(const Engine& engine, const EngineOptions& options, Components components);
/// Why arithmetic `half` is f32 with this instruction set.
std::string why_not_half(InstructionSet isa);
InstructionSet isa_named(const std::string& name);  ///< UsageError for any other name
DeviceKind device_named(const std::string& name);
Verbosity verbosity_of(const ModelArguments& arguments);

}  // namespace inkstone::cli
