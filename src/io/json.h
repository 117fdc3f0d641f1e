// JSON files with errors that name file and field.
#pragma once
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace inkstone {

/// Parses foreign text strictly: Error in one line for bad syntax, bad UTF-8, a name given twice in one object, or
/// nesting deeper than 64. `source` begins the error's text.
nlohmann::json parse_json(std::string_view text, const std::filesystem::path& source);

/// Writes a file of it, whole or not at all.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value);

/// A foreign value or text for an error: as JSON in one line, control characters escaped, bad UTF-8 replaced, long ones
/// cut.
std::string shown(const nlohmann::json& value);

/// `"a", "b" and 7 more`: the first of some names, for an error.
std::string first_names(const std::vector<std::string>& names);

/// A JSON object and where it came from. Accessors throw Error naming the file, the field, the value found and what
/// would be right.
class JsonFile {
 public:
  /// Parses a file whose top level must be an object. At most 64 MiB.
  static JsonFile read(const std::filesystem::path& path);
  /// The same; nothing if there is no such file.
  static std::optional<JsonFile> read_if_present(const std::filesystem::path& path);
  JsonFile(std::filesystem::path path, nlohmann::json object);

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& object() const { return *object_; }
  bool has(const std::string& field) const;  ///< present and not null

  /// The object in a field; shares this one's memory.
  JsonFile child(const std::string& field) const;
  /// The objects in a field's array.
  std::vector<JsonFile> children(const std::string& field) const;
  const nlohmann::json& array(const std::string& field) const;  ///< entries of any kind

  int64_t integer(const std::string& field, int64_t least, int64_t most) const;
  int64_t integer_or(const std::string& field, int64_t absent, int64_t least, int64_t most) const;
  double number(const std::string& field) const;  ///< finite
  double number_or(const std::string& field, double absent) const;
  bool boolean_or(const std::string& field, bool absent) const;
  std::string text(const std::string& field) const;
  std::string text_or(const std::string& field, const std::string& absent) const;
  std::vector<int64_t> integers(const std::string& field, int64_t least, int64_t most) const;
  std::vector<double> numbers(const std::string& field) const;
  std::vector<bool> booleans(const std::string& field) const;
  std::vector<std::string> texts(const std::string& field) const;

  /// Throws Error for a field that is there: names its value and what would be right.
  [[noreturn]] void refuse(const std::string& field, const std::string& wanted) const;
  /// Throws Error for the first field that is none of `fields`.
  void allow_only(std::initializer_list<std::string_view> fields) const;

 private:
  JsonFile(std::filesystem::path path, std::string parents, std::shared_ptr<const nlohmann::json> object);

  const nlohmann::json& need(const std::string& field) const;
  [[noreturn]] void refuse(const std::string& field, const nlohmann::json& value, const std::string& wanted) const;
  int64_t as_integer(const std::string& field, const nlohmann::json& value, int64_t least, int64_t most) const;
  double as_number(const std::string& field, const nlohmann::json& value) const;
  bool as_boolean(const std::string& field, const nlohmann::json& value) const;
  std::string as_text(const std::string& field, const nlohmann::json& value) const;
  JsonFile as_child(const std::string& field, const nlohmann::json& value) const;
  /// Each entry of an array through `as`(name of the entry, entry).
  template <class T, class As>
  std::vector<T> list(const std::string& field, const As& as) const;

  std::filesystem::path path_;
  std::string parents_;  ///< "outer.inner." of a child
  std::shared_ptr<const nlohmann::json> object_;
};

}  // namespace inkstone
