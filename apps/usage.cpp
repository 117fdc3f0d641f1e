#include "usage.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace inkstone::cli {
namespace {

/// A whole text as a number; nothing if there is more or less in it.
template <class Number>
std::optional<Number> parse(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

template <class Accepts>
CLI::Validator validator(const Accepts& accepts, const std::string& wanted) {
  const auto check = [accepts, wanted](const std::string& value) {
    return accepts(value) ? std::string() : fmt::format("'{}' given, {} wanted", value, wanted);
  };
  return CLI::Validator(check, "");
}

std::optional<std::pair<int64_t, int64_t>> size_of(std::string_view text) {
  const size_t x = text.find('x');
  if (x == std::string_view::npos) return std::nullopt;
  const auto width = parse<int64_t>(text.substr(0, x));
  const auto height = parse<int64_t>(text.substr(x + 1));
  if (!width || !height || *width < 1 || *height < 1 || *width > kMaxSide || *height > kMaxSide) return std::nullopt;
  return std::pair(*width, *height);
}

/// A number, and K, M, G or T: powers of 1024. So are KiB and the like, as plans print them; KB is a power of 1000, as
/// in errors.
std::optional<size_t> memory_of(std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  constexpr std::array<std::pair<std::string_view, double>, 3> kSuffixes = {{{"", 1024}, {"iB", 1024}, {"B", 1000}}};
  constexpr double kMost = 1e18;
  double factor = 1;
  if (const size_t unit = text.find_first_of(kUnits); unit != std::string_view::npos) {
    const auto* const suffix =
        std::ranges::find(kSuffixes, text.substr(unit + 1), &std::pair<std::string_view, double>::first);
    if (suffix == kSuffixes.end()) return std::nullopt;
    factor = std::pow(suffix->second, static_cast<double>(kUnits.find(text[unit]) + 1));
    text = text.substr(0, unit);
  }
  const auto number = parse<double>(text);
  if (!number || !std::isfinite(*number) || *number <= 0) return std::nullopt;
  const double bytes = *number * factor;
  if (bytes < 1 || bytes > kMost) return std::nullopt;
  return static_cast<size_t>(bytes);
}

/// Text behind the last colon that is no part of the path: a number, or nothing where a number is missing.
std::optional<std::string_view> scale_of(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view scale = text.substr(colon + 1);
  return scale.empty() || parse<double>(scale) ? std::optional(scale) : std::nullopt;
}

bool is_lora(std::string_view text) {
  const auto scale = scale_of(text);
  if (!scale) return !text.empty();
  const auto number = parse<double>(*scale);
  return number && std::abs(*number) <= kMaxLoraScale && text.size() > scale->size() + 1;
}

const CLI::App& selected(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

std::string command_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : app.get_parent()->get_name() + " " + app.get_name();
}

std::string unexpected(const CLI::App& app) {
  const CLI::App& command = selected(app);
  const std::vector<std::string> extras = app.remaining(true);
  const std::string first = extras.empty() ? "" : extras.front();
  if (&command != &app || first.starts_with('-'))
    return fmt::format("unknown {} '{}': {} --help lists what there is", first.starts_with('-') ? "option" : "argument",
                       first, command_name(command));
  std::vector<std::string> names;
  for (const CLI::App* known : app.get_subcommands({})) names.push_back(known->get_name());
  return fmt::format("unknown command '{}': one of {} wanted", first, fmt::join(names, ", "));
}

}  // namespace

CLI::Validator whole_number(int64_t least, int64_t most) {
  const bool open = most == std::numeric_limits<int64_t>::max();
  return validator(
      [least, most](const std::string& text) {
        const auto number = parse<int64_t>(text);
        return number && *number >= least && *number <= most;
      },
      open ? fmt::format("a whole number of at least {}", least)
           : fmt::format("a whole number from {} to {}", least, most));
}

CLI::Validator seed_number() {
  return validator([](const std::string& text) { return parse<uint64_t>(text).has_value(); },
                   fmt::format("a whole number from 0 to {}", std::numeric_limits<uint64_t>::max()));
}

CLI::Validator number(double least, double most) {
  return validator(
      [least, most](const std::string& text) {
        const auto given = parse<double>(text);
        return given && *given >= least && *given <= most;
      },
      fmt::format("a number from {} to {}", least, most));
}

CLI::Validator one_of(std::initializer_list<const char*> words) {
  const std::vector<std::string> allowed(words.begin(), words.end());
  return validator(
      [allowed](const std::string& text) { return std::find(allowed.begin(), allowed.end(), text) != allowed.end(); },
      fmt::format("one of {}", fmt::join(allowed, ", ")));
}

CLI::Validator size_text() {
  return validator([](const std::string& text) { return size_of(text).has_value(); },
                   fmt::format("WIDTHxHEIGHT in pixels, each from 1 to {}, such as 320x192", kMaxSide));
}

CLI::Validator device_name() {
  return validator(
      [](const std::string& text) {
        return text == "cpu" || text == "reference" || text == "auto" || cuda_index(text).has_value();
      },
      "one of cpu, cuda, cuda:N, auto, reference");
}

CLI::Validator picture_name() {
  const auto check = [](const std::string& text) -> std::string {
    try {
      check_picture_name(text);
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  return CLI::Validator(check, "");
}

CLI::Validator not_empty(const std::string& what) {
  return validator([](const std::string& text) { return !text.empty(); }, what);
}

std::optional<int> cuda_index(std::string_view text) {
  constexpr std::string_view kName = "cuda";
  if (text == kName) return 0;
  if (!text.starts_with(kName) || text.substr(kName.size()).empty() || text[kName.size()] != ':') return std::nullopt;
  const auto index = parse<int>(text.substr(kName.size() + 1));
  return index && *index >= 0 ? index : std::nullopt;
}

CLI::Validator memory_size() {
  return validator([](const std::string& text) { return memory_of(text).has_value(); },
                   "bytes, or a number with K, M, G or T such as 6G");
}

size_t parse_memory(const std::string& text) { return memory_of(text).value(); }

CLI::Validator lora_text() {
  return validator([](const std::string& text) { return is_lora(text); },
                   fmt::format("FILE or FILE:SCALE with a number from {} to {}", -kMaxLoraScale, kMaxLoraScale));
}

LoraOption parse_lora(const std::string& text) {
  const auto scale = scale_of(text);
  if (!scale) return {.path = text, .scale = std::nullopt};
  return {.path = text.substr(0, text.size() - scale->size() - 1), .scale = parse<double>(*scale)};
}

std::pair<int64_t, int64_t> parse_size(const std::string& text) { return size_of(text).value(); }

std::string usage_text(const CLI::App& app, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return unexpected(app);
  const std::string text = error.what();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    return fmt::format("{}; see {} --help", text, command_name(selected(app)));
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) == nullptr) return text;
  const std::string name = text.substr(0, text.find(':'));
  const CLI::Option* option = selected(app).get_option_no_throw(name);
  return option == nullptr ? text : fmt::format("{}: no value given, {} wanted", name, option->get_type_name());
}

}  // namespace inkstone::cli
