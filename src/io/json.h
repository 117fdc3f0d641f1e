// JSON files with errors that name file and field.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace inkstone {

/// A JSON object and where it came from. Accessors throw Error naming the file, the field, the value found and what
/// would be right.
class JsonFile {
 public:
  /// Parses a file whose top level must be an object. At most 64 MiB.
  static JsonFile read(const std::filesystem::path& path);
  JsonFile(std::filesystem::path path, nlohmann::json object);

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& object() const { return object_; }
  bool has(const std::string& field) const;  ///< present and not null

  /// The object in a field.
  JsonFile child(const std::string& field) const;

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

 private:
  std::filesystem::path path_;
  nlohmann::json object_;
};

}  // namespace inkstone
