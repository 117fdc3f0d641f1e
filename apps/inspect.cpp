// inkstone inspect: what a model folder or a weight file is.
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "inkstone/inkstone.h"

#include "commands.h"
#include "text.h"

namespace inkstone::cli {
namespace {

using nlohmann::json;

constexpr const char* kFooter = R"(Examples:
  inkstone inspect models/tiny
  inkstone inspect model.safetensors --json)";

struct Arguments {
  std::string path;
  bool as_json = false;
};

/// "a, b and c" of a JSON array of texts.
std::string listed(const json& texts) {
  std::string line;
  for (const json& text : texts) line += (line.empty() ? "" : ", ") + text.get<std::string>();
  return line;
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
  for (const json& missing : component.at("missing")) fmt::print("  missing: {}\n", missing.get<std::string>());
}

void run_inspect(const Arguments& a) {
  const json found = json::parse(inspect_json(a.path));
  if (a.as_json) {
    fmt::print("{}\n", found.dump(2));
    return;
  }
  fmt::print("{}\n", found.at("path").get<std::string>());
  for (const json& component : found.at("components")) print_component(component);
  for (const json& missing : found.at("missing")) fmt::print("\nmissing: {}\n", missing.get<std::string>());
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("inspect", "Say what a model folder or a weight file is.")->group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("PATH", arguments->path, "a folder or a file")->type_name("")->required();
  command.add_flag("--json", arguments->as_json, "print JSON");
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_inspect(*arguments); }; });
}

}  // namespace inkstone::cli
