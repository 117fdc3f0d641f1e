// inkstone tokenize: the token ids of texts.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "model_arguments.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

constexpr const char* kFooter = R"(Prints one JSON array of ids per text. A file holds one JSON string per line.

Examples:
  inkstone tokenize "a red star"
  inkstone tokenize --template "a red star"        as the text encoder reads it, template around it
  inkstone tokenize --file prompts.jsonl)";

struct Arguments {
  std::optional<std::string> model, tokenizer, text, file;
  bool with_template = false;
};

std::vector<int32_t> ids_of(const TextTokenizer& tokenizer, const Arguments& a, const std::string& text) {
  return a.with_template ? tokenizer.encode_with_template(text) : tokenizer.encode(text);
}

std::string text_of_line(const std::string& line) {
  TextTokenizer::check_text(line);
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_string()) throw Error("not a JSON string; each line is to be one, such as \"a star\"");
  return json.get<std::string>();
}

void tokenize_file(const TextTokenizer& tokenizer, const Arguments& a) {
  std::error_code ignored;
  if (std::filesystem::is_directory(*a.file, ignored))
    throw Error(fmt::format("{}: is a folder, a file is needed", *a.file));
  std::ifstream file(*a.file);
  if (!file) throw Error(fmt::format("{}: cannot be read: {}", *a.file, std::strerror(errno)));
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    try {
      fmt::print("{}\n", nlohmann::json(ids_of(tokenizer, a, text_of_line(line))).dump());
    } catch (const Error& e) {
      throw Error(fmt::format("{}:{}: {}", *a.file, number, e.what()));
    }
  }
  if (!file.eof()) throw Error(fmt::format("{}: cannot be read to its end", *a.file));
}

void run_tokenize(const Arguments& a) {
  if (a.text.has_value() == a.file.has_value())
    throw UsageError(fmt::format("TEXT and --file: {} given, one of them wanted", a.text ? "both" : "none"));
  const TextTokenizer tokenizer = TextTokenizer::open(a.tokenizer ? *a.tokenizer : a.model.value_or(""));
  if (a.file)
    tokenize_file(tokenizer, a);
  else
    fmt::print("{}\n", nlohmann::json(ids_of(tokenizer, a, *a.text)).dump());
}

}  // namespace

void add_tokenize(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("tokenize", "Print the token ids of a text or of a file of texts.");
  command.group("Commands");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("TEXT", arguments->text, "the text")->type_name("");
  command.add_option("--file", arguments->file, "one JSON string per line instead of TEXT")
      ->type_name("FILE")
      ->check(not_empty("a file"));
  command.add_flag("--template", arguments->with_template, "put the text-to-image template around each text");
  add_model_option(command, arguments->model);
  add_tokenizer_option(command, arguments->tokenizer);
  command.footer(kFooter);
  command.callback([arguments, &run] { run = [arguments] { run_tokenize(*arguments); }; });
}

}  // namespace inkstone::cli
