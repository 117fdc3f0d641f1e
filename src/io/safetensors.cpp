#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "io/atomic_file.h"
#include "io/json.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kLengthBytes = sizeof(uint64_t);
constexpr size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kAlignment = 64;                // of the data in files that we write: a line of the caches
constexpr auto kMetadata = "__metadata__";
static_assert(std::endian::native == std::endian::little, "tensor files are little-endian and are mapped as they are");

/// Turns the JSON header of one file into entries.
class HeaderReader {
 public:
  HeaderReader(const fs::path& file, size_t data_begin, size_t data_bytes)
      : file_(file), data_begin_(data_begin), data_bytes_(data_bytes) {}

  SafetensorsHeader read(const json& object) const {
    check(object.is_object(), "{}: the safetensors header must be a JSON object", file_.string());
    SafetensorsHeader header;
    for (const auto& [name, value] : object.items()) {
      if (name == kMetadata) {
        header.metadata = metadata(value);
      } else {
        header.entries.push_back(entry(name, value));
      }
    }
    std::sort(header.entries.begin(), header.entries.end(),
              [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    check_cover(header.entries);
    return header;
  }

 private:
  std::map<std::string, std::string> metadata(const json& value) const {
    std::map<std::string, std::string> texts;
    if (value.is_null()) return texts;  // as MLX writes none
    check(value.is_object(), "{}: {} must be a JSON object of strings", file_.string(), kMetadata);
    for (const auto& [key, text] : value.items()) {
      check(text.is_string(), "{}: {} must hold strings, {} is not", file_.string(), kMetadata, shown(key));
      texts.emplace(key, text.get<std::string>());
    }
    return texts;
  }

  SafetensorsEntry entry(const std::string& name, const json& value) const {
    const std::string where = fmt::format("{}: tensor {}", file_.string(), shown(name));
    check(value.is_object() && value.contains("dtype") && value.contains("shape") && value.contains("data_offsets"),
          "{}: its header entry must be an object with dtype, shape and data_offsets", where);
    SafetensorsEntry e;
    e.name = name;
    e.dtype = dtype(value["dtype"], where);
    e.shape = shape(value["shape"], size_of(e.dtype), where);
    const std::vector<size_t> offsets = sizes(value["data_offsets"], where + ": data_offsets");
    check(offsets.size() == 2 && offsets[0] <= offsets[1], "{}: data_offsets must be two rising numbers, found {}",
          where, fmt::join(offsets, ", "));
    check(offsets[1] <= data_bytes_, "{}: its data ends at byte {}, the file holds {} bytes of data (is it truncated?)",
          where, offsets[1], data_bytes_);
    const size_t needed = static_cast<size_t>(e.shape.count()) * size_of(e.dtype);
    check(offsets[1] - offsets[0] == needed, "{}: {} {} needs {} bytes, its data_offsets span {}", where,
          name_of(e.dtype), e.shape.text(), needed, offsets[1] - offsets[0]);
    e.begin = data_begin_ + offsets[0];
    e.end = data_begin_ + offsets[1];
    return e;
  }

  DType dtype(const json& value, const std::string& where) const {
    std::vector<std::string_view> known;
    for (size_t i = 0; i < std::size(kTypes); ++i) {
      known.push_back(kTypes[i].name);
      if (value.is_string() && value.get_ref<const std::string&>() == known.back()) return static_cast<DType>(i);
    }
    fail("{}: unknown dtype {}, known are {}", where, shown(value), fmt::join(known, ", "));
  }

  Shape shape(const json& value, size_t element, const std::string& where) const {
    const std::vector<size_t> dims = sizes(value, where + ": shape");
    check(dims.size() <= Shape::kMaxRank, "{}: has {} axes, at most {} are supported", where, dims.size(),
          static_cast<int>(Shape::kMaxRank));
    int64_t bytes = static_cast<int64_t>(element);
    std::vector<int64_t> signed_dims;
    for (const size_t d : dims) {
      signed_dims.push_back(static_cast<int64_t>(d));
      // A zero further on must not excuse a product that overflows before it.
      check(d <= INT64_MAX && !__builtin_mul_overflow(bytes, std::max<int64_t>(signed_dims.back(), 1), &bytes),
            "{}: shape [{}] is too large for any file", where, fmt::join(dims, ", "));
    }
    return Shape(signed_dims);
  }

  std::vector<size_t> sizes(const json& value, const std::string& where) const {
    check(value.is_array(), "{} must be an array of whole numbers", where);
    std::vector<size_t> numbers;
    for (const json& number : value) {
      check(number.is_number_unsigned(), "{} must hold whole numbers from 0, found {}", where, shown(number));
      numbers.push_back(number.get<uint64_t>());
    }
    return numbers;
  }

  void check_cover(const std::vector<SafetensorsEntry>& entries) const {
    size_t end = data_begin_;
    for (size_t i = 0; i < entries.size(); ++i) {
      const SafetensorsEntry& e = entries[i];
      check(e.begin >= end, "{}: tensors {} and {} overlap: one ends at byte {} of the data, the next begins at {}",
            file_.string(), shown(i > 0 ? entries[i - 1].name : ""), shown(e.name), end - data_begin_,
            e.begin - data_begin_);
      check(e.begin == end, "{}: {} bytes before tensor {} belong to no tensor", file_.string(), e.begin - end,
            shown(e.name));
      end = e.end;
    }
    check(end == data_begin_ + data_bytes_, "{}: the last {} bytes belong to no tensor", file_.string(),
          data_begin_ + data_bytes_ - end);
  }

  const fs::path& file_;
  size_t data_begin_;
  size_t data_bytes_;
};

json entry_json(const SafetensorsEntry& e) {
  json dims = json::array();
  for (int i = 0; i < e.shape.rank(); ++i) dims.push_back(e.shape[i]);
  return {{"dtype", name_of(e.dtype)}, {"shape", dims}, {"data_offsets", {e.begin, e.end}}};
}

}  // namespace

bool may_be_safetensors(std::span<const std::byte> bytes) {
  return bytes.size() <= kLengthBytes || bytes[kLengthBytes] == std::byte{'{'};
}

std::string shown_beginning(std::span<const std::byte> bytes) {
  constexpr size_t kTelling = 16;  // holds the magic numbers of other formats
  const auto begin = bytes.first(std::min(bytes.size(), kTelling));
  return shown(std::string(reinterpret_cast<const char*>(begin.data()), begin.size()));
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, const fs::path& file) {
  check(may_be_safetensors(bytes), "{}: is not a safetensors file, which is needed: it begins with {}", file.string(),
        shown_beginning(bytes));
  check(bytes.size() >= kLengthBytes, "{}: {} bytes: not a safetensors file (is it truncated?)", file.string(),
        bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const size_t rest = bytes.size() - kLengthBytes;
  check(length <= kMaxHeaderBytes, "{}: a header of {} bytes, at most {} are allowed: not a safetensors file?",
        file.string(), length, kMaxHeaderBytes);
  check(length <= rest, "{}: a header of {} bytes, but the file ends after {} (is it truncated?)", file.string(),
        length, rest);
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  const json object = parse_json({text, length}, file);
  return HeaderReader(file, kLengthBytes + length, rest - length).read(object);
}

SafetensorsFile read_safetensors(const fs::path& path) {
  const auto mapped = map_file(path);
  SafetensorsHeader header = parse_safetensors({static_cast<const std::byte*>(mapped->data), mapped->bytes}, path);
  SafetensorsFile file{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const SafetensorsEntry& e : header.entries)
    file.tensors.emplace(e.name, StoredTensor{view_or_copy(mapped, e.begin, e.shape, e.dtype), path, e.name});
  return file;
}

std::string place_safetensors(std::vector<SafetensorsEntry>& entries,
                              const std::map<std::string, std::string>& metadata) {
  std::ranges::stable_sort(entries, std::greater(), [](const SafetensorsEntry& e) { return size_of(e.dtype); });
  json header = json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  size_t end = 0;
  for (SafetensorsEntry& e : entries) {
    e.begin = end;
    e.end = end += static_cast<size_t>(e.shape.count()) * size_of(e.dtype);
    header[e.name] = entry_json(e);
  }
  std::string text = header.dump();
  text.resize((kLengthBytes + text.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  const uint64_t length = text.size();
  for (SafetensorsEntry& e : entries) {
    e.begin += kLengthBytes + length;
    e.end += kLengthBytes + length;
  }
  return std::string(reinterpret_cast<const char*>(&length), kLengthBytes) + text;
}

void write_safetensors(const fs::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata, std::stop_token stop) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors)
    entries.push_back({.name = name, .dtype = tensor.dtype(), .shape = tensor.shape()});
  const std::string head = place_safetensors(entries, metadata);
  const auto write = [&](std::ostream& out) {
    out << head;
    for (const SafetensorsEntry& e : entries) {
      const Tensor& tensor = tensors.at(e.name);
      out.write(tensor.data<char>(), static_cast<std::streamsize>(tensor.bytes()));
    }
  };
  write_atomically(path, write, std::move(stop));
}

}  // namespace inkstone
