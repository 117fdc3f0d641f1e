// inkstone inspect: what a model folder or a weight file is.
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "inkstone/inkstone.h"

#include "commands.h"
#include "text.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

using nlohmann::json;

constexpr const char* kFooter = R"(Examples:
  inkstone inspect models/tiny
  inkstone inspect model.safetensors --json
  inkstone inspect style.safetensors            a LoRA: its spelling, ranks, alphas and layers)";

struct Arguments {
  std::string path;
  bool as_json = false;
};

constexpr size_t kMostLines = 20;  // of a list; --json has it whole

/// "a, b, c" of a JSON array of texts.
std::string listed(const json& texts) {
  std::string line;
  for (const json& text : texts) line += (line.empty() ? "" : ", ") + text.get<std::string>();
  return line;
}

void print_lines(const char* label, const json& texts) {
  for (size_t i = 0; i < std::min(texts.size(), kMostLines); ++i)
    fmt::print("  {}: {}\n", label, texts[i].get<std::string>());
  if (texts.size() > kMostLines) fmt::print("  {}: {} more\n", label, texts.size() - kMostLines);
}

void print_component(const json& component) {
  fmt::print("\n{}: {} ({})\n", component.at("component").get<std::string>(), component.at("format").get<std::string>(),
             component.at("scheme").get<std::string>());
  fmt::print("  {} parameters in {} tensors, {}\n", count_text(component.at("parameters").get<int64_t>()),
             component.at("tensors").get<int64_t>(), bytes_text(component.at("bytes").get<size_t>()));
  for (const auto& [dtype, tensors] : component.at("dtypes").items())
    fmt::print("  {} tensors of {}\n", tensors.get<int64_t>(), dtype);
  fmt::print("  files: {}\n", listed(component.at("files")));
  for (const auto& [name, value] : component.at("config").items()) fmt::print("  {} = {}\n", name, value.dump());
  const json targets = component.value("targets", json::object());  // of a LoRA
  for (const auto& [target, layers] : targets.items()) fmt::print("  {} of {}\n", layers.get<int64_t>(), target);
  print_lines("missing", component.at("missing"));
  print_lines("surplus", component.at("surplus"));
  if (component.contains("error")) fmt::print("  error: {}\n", component.at("error").get<std::string>());
}

void run_inspect(const Arguments& a) {
  const json found = json::parse(inspect_json(a.path));
  if (a.as_json) {
    fmt::print("{}\n", found.dump(2));
    return;
  }
  fmt::print("{}\n", found.at("path").get<std::string>());
  for (const json& component : found.at("components")) print_component(component);
  if (!found.at("missing").empty()) fmt::print("\nmissing: {}\n", listed(found.at("missing")));
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("inspect", "Say what a model folder or a weight file is.")->group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("PATH", arguments->path, "a folder or a file")
      ->type_name("")
      ->required()
      ->check(not_empty("a folder or a file"));
  command.add_flag("--json", arguments->as_json, "print JSON");
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_inspect(*arguments); }; });
}

}  // namespace inkstone::cli
