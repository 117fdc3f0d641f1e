#include "io/json.h"

#include <algorithm>
#include <cmath>
#include <system_error>
#include <unordered_set>

#include "core/error.h"
#include "core/mapped_file.h"
#include "io/atomic_file.h"

namespace inkstone {
namespace {

using nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxShown = 80;  // bytes of foreign text in an error
constexpr size_t kListed = 20;    // names in an error

std::string shortened(std::string text) {
  if (text.size() <= kMaxShown) return text;
  size_t end = kMaxShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;  // not within a UTF-8 sequence
  return text.substr(0, end) + "...";
}

/// Refuses names given twice, of which the library would keep one, and deep nesting.
class StrictCallback {
 public:
  explicit StrictCallback(const std::filesystem::path& source) : source_(source) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    check(depth <= kMaxDepth, "{}: JSON nested deeper than {}", source_.string(), kMaxDepth);
    if (event == json::parse_event_t::object_start) names_.emplace_back();
    if (event == json::parse_event_t::object_end) names_.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names_.back().insert(name).second)
        fail("{}: {} is given twice in one JSON object", source_.string(), shown(name));
    }
    return true;
  }

 private:
  const std::filesystem::path& source_;
  std::vector<std::unordered_set<std::string>> names_;  ///< of the objects that are open
};

/// The library's text without its error code, in one line of printable characters.
std::string reason(const json::exception& e) {
  std::string_view text = e.what();
  if (const size_t code = text.find("] "); code != std::string_view::npos) text.remove_prefix(code + 2);
  std::string line;
  for (const char c : text) line += c >= ' ' && c <= '~' ? c : '?';
  return line;
}

}  // namespace

json parse_json(std::string_view text, const std::filesystem::path& source) {
  try {
    return json::parse(text, StrictCallback(source));
  } catch (const json::exception& e) {
    fail("{}: not valid JSON: {}", source.string(), reason(e));
  }
}

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value) {
  constexpr int kIndent = 2;
  write_atomically(path, [&](std::ostream& out) { out << value.dump(kIndent) << '\n'; });
}

std::string shown(const json& value) { return shortened(value.dump(-1, ' ', false, json::error_handler_t::replace)); }

std::string first_names(const std::vector<std::string>& names) {
  std::vector<std::string> first;
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i) first.push_back(shown(names[i]));
  const std::string text = fmt::format("{}", fmt::join(first, ", "));
  return names.size() <= kListed ? text : fmt::format("{} and {} more", text, names.size() - kListed);
}

JsonFile JsonFile::read(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  check(bytes.size() <= kMaxFileBytes, "{}: {} bytes: a JSON file of at most {} is read", path.string(), bytes.size(),
        kMaxFileBytes);
  return {path, parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path)};
}

std::optional<JsonFile> JsonFile::read_if_present(const std::filesystem::path& path) {
  std::error_code ignored;  // what cannot be asked for is opened, which tells the reason; so is a link to nothing
  if (std::filesystem::symlink_status(path, ignored).type() == std::filesystem::file_type::not_found)
    return std::nullopt;
  return read(path);
}

JsonFile::JsonFile(std::filesystem::path path, json object)
    : JsonFile(std::move(path), "", std::make_shared<const json>(std::move(object))) {
  check(object_->is_object(), "{}: holds {}, a JSON object is needed", path_.string(), shown(*object_));
}

JsonFile::JsonFile(std::filesystem::path path, std::string parents, std::shared_ptr<const json> object)
    : path_(std::move(path)), parents_(std::move(parents)), object_(std::move(object)) {}

bool JsonFile::has(const std::string& field) const {
  const auto found = object_->find(field);
  return found != object_->end() && !found->is_null();
}

const json& JsonFile::need(const std::string& field) const {
  const auto found = object_->find(field);
  check(found != object_->end(), "{}: field {}{} is missing", path_.string(), parents_, field);
  return *found;
}

void JsonFile::refuse(const std::string& field, const json& value, const std::string& wanted) const {
  fail("{}: field {}{} is {}, {} is needed", path_.string(), parents_, field, shown(value), wanted);
}

void JsonFile::refuse(const std::string& field, const std::string& wanted) const { refuse(field, need(field), wanted); }

void JsonFile::allow_only(std::initializer_list<std::string_view> fields) const {
  for (const auto& [name, value] : object_->items())
    check(std::find(fields.begin(), fields.end(), name) != fields.end(), "{}: field {}{} is unknown; there are {}",
          path_.string(), parents_, shown(name), fmt::join(fields, ", "));
}

int64_t JsonFile::as_integer(const std::string& field, const json& value, int64_t least, int64_t most) const {
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (fits && value.get<int64_t>() >= least && value.get<int64_t>() <= most) return value.get<int64_t>();
  refuse(field, value, fmt::format("an integer from {} to {}", least, most));
}

double JsonFile::as_number(const std::string& field, const json& value) const {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  refuse(field, value, "a finite number");
}

bool JsonFile::as_boolean(const std::string& field, const json& value) const {
  if (value.is_boolean()) return value.get<bool>();
  refuse(field, value, "true or false");
}

std::string JsonFile::as_text(const std::string& field, const json& value) const {
  if (value.is_string()) return value.get<std::string>();
  refuse(field, value, "a string");
}

JsonFile JsonFile::as_child(const std::string& field, const json& value) const {
  if (!value.is_object()) refuse(field, value, "an object");
  return {path_, parents_ + field + ".", std::shared_ptr<const json>(object_, &value)};
}

template <class T, class As>
std::vector<T> JsonFile::list(const std::string& field, const As& as) const {
  const json& entries = array(field);
  std::vector<T> values;
  for (size_t i = 0; i < entries.size(); ++i) values.push_back(as(fmt::format("{}[{}]", field, i), entries[i]));
  return values;
}

const json& JsonFile::array(const std::string& field) const {
  const json& value = need(field);
  if (!value.is_array()) refuse(field, value, "an array");
  return value;
}

JsonFile JsonFile::child(const std::string& field) const { return as_child(field, need(field)); }

std::vector<JsonFile> JsonFile::children(const std::string& field) const {
  return list<JsonFile>(field, [&](const std::string& name, const json& entry) { return as_child(name, entry); });
}

int64_t JsonFile::integer(const std::string& field, int64_t least, int64_t most) const {
  return as_integer(field, need(field), least, most);
}

int64_t JsonFile::integer_or(const std::string& field, int64_t absent, int64_t least, int64_t most) const {
  return has(field) ? integer(field, least, most) : absent;
}

double JsonFile::number(const std::string& field) const { return as_number(field, need(field)); }

double JsonFile::number_or(const std::string& field, double absent) const {
  return has(field) ? number(field) : absent;
}

bool JsonFile::boolean_or(const std::string& field, bool absent) const {
  return has(field) ? as_boolean(field, need(field)) : absent;
}

std::string JsonFile::text(const std::string& field) const { return as_text(field, need(field)); }

std::string JsonFile::text_or(const std::string& field, const std::string& absent) const {
  return has(field) ? text(field) : absent;
}

std::vector<int64_t> JsonFile::integers(const std::string& field, int64_t least, int64_t most) const {
  return list<int64_t>(
      field, [&](const std::string& name, const json& entry) { return as_integer(name, entry, least, most); });
}

std::vector<double> JsonFile::numbers(const std::string& field) const {
  return list<double>(field, [&](const std::string& name, const json& entry) { return as_number(name, entry); });
}

std::vector<bool> JsonFile::booleans(const std::string& field) const {
  return list<bool>(field, [&](const std::string& name, const json& entry) { return as_boolean(name, entry); });
}

std::vector<std::string> JsonFile::texts(const std::string& field) const {
  return list<std::string>(field, [&](const std::string& name, const json& entry) { return as_text(name, entry); });
}

}  // namespace inkstone
