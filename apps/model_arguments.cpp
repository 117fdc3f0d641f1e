#include "model_arguments.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>

#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr const char* kModelGroup = "Model";
constexpr const char* kRunGroup = "How to run it";
constexpr int kMaxThreads = 1024;
constexpr const char* kIsaVariable = "INKSTONE_ISA";
constexpr std::pair<const char*, InstructionSet> kIsaNames[] = {{"scalar", InstructionSet::scalar},
                                                                {"avx2", InstructionSet::avx2},
                                                                {"avx_vnni", InstructionSet::avx_vnni},
                                                                {"avx512", InstructionSet::avx512}};

CLI::Option* add_path(CLI::App& command, const std::string& name, std::optional<std::string>& path,
                      const std::string& help) {
  return command.add_option(name, path, help)->type_name("PATH")->check(not_empty("a path"))->group(kModelGroup);
}

constexpr const char* kNoCache = "off";

/// Where programs of this user keep what they can make again, by the XDG base directory specification; empty if the
/// environment does not say.
std::filesystem::path user_cache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && std::filesystem::path(cache).is_absolute()) return cache;
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == 0 ? std::filesystem::path() : std::filesystem::path(home) / ".cache";
}

std::filesystem::path prompt_cache(const std::optional<std::string>& given) {
  if (given && *given == kNoCache) return {};
  std::error_code ignored;
  if (given && std::filesystem::exists(*given, ignored) && !std::filesystem::is_directory(*given, ignored))
    throw Error("--prompt-cache " + *given + ": is a file; a folder or " + kNoCache + " is wanted");
  if (given) return *given;
  const std::filesystem::path cache = user_cache();
  return cache.empty() ? cache : cache / "inkstone" / "prompts";
}

/// `half_kind`: as Engine has it. Empty for f32.
std::string arithmetic_line(const EngineOptions& options, const std::string& half_kind, Components components) {
  const Arithmetic arithmetic = options.arithmetic;
  if (arithmetic == Arithmetic::f32) return "";
  if (half_kind == "f32") return "arithmetic half: f32, as " + why_not_half(options.isa);
  const bool text = components == Components::text;
  const std::string differ = fmt::format("{} differ a little from those of f32", text ? "embeddings" : "pictures");
  if (is_half(arithmetic))
    return fmt::format("arithmetic {}, lossy: the text encoder's layers{} multiply in 16 bits; {}",
                       arithmetic == Arithmetic::half ? fmt::format("half ({})", half_kind) : half_kind,
                       text ? "" : " and the transformer's blocks", differ);
  const auto in_8_bits = [&](const char* parts) {
    return fmt::format("arithmetic {} multiply in 8 bits; {}", parts, differ);
  };
  if (text) return in_8_bits("int8_all, lossy: the text encoder's layers");
  if (arithmetic == Arithmetic::fp8) return in_8_bits("fp8, lossy: the transformer's blocks");
  if (arithmetic == Arithmetic::fp8_all)
    return in_8_bits("fp8_all, lossy: the transformer's blocks and, in large pictures, their attention");
  if (arithmetic == Arithmetic::int8)
    return in_8_bits("int8, lossy: the transformer's blocks and, on a CPU, the VAE's convolutions");
  return in_8_bits("int8_all, lossy: the text encoder's layers, the transformer's blocks and the VAE's convolutions");
}

}  // namespace

CLI::Option* add_model_option(CLI::App& command, std::optional<std::string>& model) {
  return add_path(command, "--model", model,
                  "folder or file of a model; without it the small one that comes with Inkstone")
      ->type_name("DIR");
}

CLI::Option* add_tokenizer_option(CLI::App& command, std::optional<std::string>& tokenizer) {
  return add_path(command, "--tokenizer", tokenizer, "tokenizer to use instead of the model's own: folder or file");
}

CLI::Option* add_device_option(CLI::App& command, std::optional<std::string>& device) {
  return command
      .add_option("--device", device, "cpu (default), cuda, cuda:N, auto, or reference: the definition, slow")
      ->type_name("NAME")
      ->check(device_name())
      ->group(kRunGroup);
}

CLI::Option* add_arithmetic_option(CLI::App& command, std::optional<std::string>& arithmetic, Components components) {
  const bool all = components == Components::all;
  return command
      .add_option("--arithmetic", arithmetic,
                  all ? "f32 (default); lossy: half (cpu: fp16 or bf16), int8, int8_all (cpu), fp8, fp8_all (cuda)"
                      : "f32 (default); lossy, on the cpu: half (16 bits: fp16 or bf16), int8_all (8 bits)")
      ->type_name("NAME")
      ->check(all ? one_of({"f32", "half", "fp16", "bf16", "int8", "int8_all", "fp8", "fp8_all"})
                  : one_of({"f32", "half", "fp16", "bf16", "int8_all"}))
      ->group(kRunGroup);
}

CLI::Option* add_isa_option(CLI::App& command, std::optional<std::string>& isa) {
  return command
      .add_option("--isa", isa, "scalar, avx2, avx_vnni or avx512; without it the best that the processor has")
      ->type_name("NAME")
      ->envname(kIsaVariable)  // without check(): CLI11 2.4 drops a variable that fails one, and says nothing
      ->group(kRunGroup);
}

CLI::Option* add_threads_option(CLI::App& command, std::optional<int>& threads) {
  return command.add_option("--threads", threads, "threads to compute with; without it all that the machine allows")
      ->type_name("N")
      ->check(whole_number(1, kMaxThreads))
      ->group(kRunGroup);
}

void add_model_options(CLI::App& command, ModelArguments& arguments, Components components) {
  add_model_option(command, arguments.model);
  add_path(command, "--text-encoder", arguments.text_encoder, "text encoder to use instead of the model's own");
  add_tokenizer_option(command, arguments.tokenizer);
  if (components == Components::all) {
    add_path(command, "--transformer", arguments.transformer, "transformer to use instead of the model's own");
    add_path(command, "--vae", arguments.vae, "VAE to use instead of the model's own");
    command
        .add_option("--lora", arguments.loras,
                    "LoRA to add to the transformer, and how strongly (else 1); may be given several times")
        ->type_name("FILE[:SCALE]")
        ->allow_extra_args(false)
        ->check(lora_text())
        ->group(kModelGroup);
    command
        .add_flag("--lora-partial", arguments.lora_partial, "leave out what a LoRA has for layers that are not there")
        ->group(kModelGroup);
  }
  add_device_option(command, arguments.device);
  command.add_option("--dtype", arguments.dtype, "hold weights as f32 or bf16; without it as the files have them")
      ->type_name("TYPE")
      ->check(one_of({"f32", "bf16"}))
      ->group(kRunGroup);
  add_arithmetic_option(command, arguments.arithmetic, components);
  add_isa_option(command, arguments.isa);
  add_threads_option(command, arguments.threads);
  if (components == Components::all)
    command.add_option("--memory", arguments.memory, "take at most this much, such as 6G; without it what is free")
        ->type_name("SIZE")
        ->check(memory_size())
        ->group(kRunGroup);
  command
      .add_option("--prompt-cache", arguments.prompt_cache,
                  "folder of encoded prompts, at most 256 MiB, or off; default ~/.cache/inkstone/prompts")
      ->type_name("DIR")
      ->check(not_empty("a folder or off"))
      ->group(kRunGroup);
  command.add_option("--compare", arguments.compare, "run every op on this device too; stop at the first that differs")
      ->type_name("NAME")
      ->check(device_name())
      ->group(kRunGroup);
  command.add_flag("--quiet", arguments.quiet, "no messages and no progress, only errors and results")
      ->group(kRunGroup);
  command.add_flag("--verbose", arguments.verbose, "say which device, threads, components and formats are used")
      ->group(kRunGroup);
}

Arithmetic arithmetic_named(const std::string& name) {
  constexpr std::pair<const char*, Arithmetic> kNames[] = {
      {"half", Arithmetic::half},      {"fp16", Arithmetic::fp16},         {"bf16", Arithmetic::bf16},
      {"int8", Arithmetic::int8},      {"int8_all", Arithmetic::int8_all}, {"fp8", Arithmetic::fp8},
      {"fp8_all", Arithmetic::fp8_all}};
  const auto* found = std::ranges::find(kNames, name, [](const auto& pair) { return std::string_view(pair.first); });
  return found == std::end(kNames) ? Arithmetic::f32 : found->second;
}

std::string why_not_half(InstructionSet isa) {
  if (isa == InstructionSet::best || isa == InstructionSet::avx512)
    return "no products of 16 bits are faster on this processor";
  const auto* name = std::ranges::find(kIsaNames, isa, [](const auto& pair) { return pair.second; });
  return fmt::format("the instruction set {} has no products of 16 bits", name->first);
}

std::string lossy_line(const Engine& engine, const EngineOptions& options, Components components) {
  const std::string arithmetic = arithmetic_line(options, engine.half_kind(), components);
  const std::string weights = engine.lossy_weights();
  if (weights.empty()) return arithmetic;
  return fmt::format("{}{}weights, lossy: {}", arithmetic, arithmetic.empty() ? "" : "; ", weights);
}

InstructionSet isa_named(const std::string& name) {
  const auto* found = std::ranges::find(kIsaNames, name, [](const auto& pair) { return std::string_view(pair.first); });
  if (found != std::end(kIsaNames)) return found->second;
  throw UsageError(fmt::format("--isa: '{}' given, one of scalar, avx2, avx_vnni, avx512 in --isa or {} wanted", name,
                               kIsaVariable));
}

DeviceKind device_named(const std::string& name) {
  if (cuda_index(name)) return DeviceKind::cuda;
  if (name == "auto") return DeviceKind::automatic;
  return name == "reference" ? DeviceKind::reference : DeviceKind::cpu;
}

void apply(const ModelArguments& arguments, EngineOptions& options) {
  if (arguments.model) options.model = *arguments.model;
  if (arguments.transformer) options.transformer = *arguments.transformer;
  if (arguments.text_encoder) options.text_encoder = *arguments.text_encoder;
  if (arguments.vae) options.vae = *arguments.vae;
  if (arguments.tokenizer) options.tokenizer = *arguments.tokenizer;
  if (options.loras.empty())  // --like may have chosen scales since
    for (const std::string& lora : arguments.loras) options.loras.push_back(parse_lora(lora));
  if (arguments.lora_partial) options.lora_partial = true;
  if (arguments.device) options.device = device_named(*arguments.device);
  if (arguments.device) options.device_index = cuda_index(*arguments.device).value_or(0);
  if (arguments.dtype) options.held_as = *arguments.dtype == "f32" ? HeldAs::f32 : HeldAs::bf16;
  if (arguments.arithmetic) options.arithmetic = arithmetic_named(*arguments.arithmetic);
  if (arguments.isa) options.isa = isa_named(*arguments.isa);
  if (arguments.memory) options.memory_limit = parse_memory(*arguments.memory);
  options.prompt_cache = prompt_cache(arguments.prompt_cache);
  if (arguments.threads) options.threads = *arguments.threads;
  if (arguments.compare) options.compare = device_named(*arguments.compare);
}

Verbosity verbosity_of(const ModelArguments& arguments) {
  if (arguments.quiet && arguments.verbose) throw UsageError("--quiet and --verbose: only one of them can be given");
  if (arguments.quiet) return Verbosity::quiet;
  return arguments.verbose ? Verbosity::verbose : Verbosity::normal;
}

}  // namespace inkstone::cli
