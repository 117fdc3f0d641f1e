// Wrong usage of the command line: what counts as wrong, and the one line that says so.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "inkstone/inkstone.h"

namespace inkstone::cli {

/// The user called the program wrongly: exit code 2. Its text names the option, the value and what would be right.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Checks of one option's value. Each refuses with a text that names the value and what would be right.
CLI::Validator whole_number(int64_t least, int64_t most);
CLI::Validator seed_number();
CLI::Validator number(double least, double most);
CLI::Validator one_of(std::initializer_list<const char*> words);
CLI::Validator size_text();
/// cpu, reference, cuda, cuda:N or auto.
CLI::Validator device_name();
/// A file with an ending of pictures.
CLI::Validator picture_name();
CLI::Validator not_empty(const std::string& what);
CLI::Validator lora_text();

/// N of cuda:N, 0 for cuda; nothing for any other name.
std::optional<int> cuda_index(std::string_view text);

/// Bytes with an optional unit.
CLI::Validator memory_size();

/// Bytes of a text that memory_size() has accepted, such as 6G, 800M, 1.5GiB or 2GB.
size_t parse_memory(const std::string& text);

/// Width and height of a text that size_text() has accepted, such as 320x192.
std::pair<int64_t, int64_t> parse_size(const std::string& text);

/// File and scale of a text that lora_text() has accepted, such as style.safetensors:0.8.
LoraOption parse_lora(const std::string& text);

/// What was wrong with a command line that CLI11 refused, in one line.
std::string usage_text(const CLI::App& app, const CLI::ParseError& error);

}  // namespace inkstone::cli
