#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "io/json.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kLongestName = 1024;
constexpr uint64_t kMostAxes = 4;
constexpr uint64_t kMostValues = uint64_t{1} << 22;  // of an array: far more than any vocabulary
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMostAlignment = uint64_t{1} << 20;
constexpr const char* kAlignment = "general.alignment";
constexpr std::string_view kShape = "comfy.gguf.orig_shape.";  // of tensors that were flattened

/// A tensor type of the format: numbers of a dtype, or blocks.
struct TensorType {
  uint32_t number;
  std::string_view name;
  DType dtype = DType::u8;
  std::optional<WeightFormat> blocks = std::nullopt;

  int64_t numbers() const { return blocks ? layout_of(*blocks).numbers : 1; }
  int64_t bytes() const { return blocks ? layout_of(*blocks).bytes : static_cast<int64_t>(size_of(dtype)); }
};

constexpr std::array<TensorType, 20> kTensorTypes = {{
    {0, "F32", DType::f32},
    {1, "F16", DType::f16},
    {30, "BF16", DType::bf16},
    {2, "Q4_0", DType::u8, WeightFormat::q4_0},
    {3, "Q4_1", DType::u8, WeightFormat::q4_1},
    {6, "Q5_0", DType::u8, WeightFormat::q5_0},
    {7, "Q5_1", DType::u8, WeightFormat::q5_1},
    {8, "Q8_0", DType::u8, WeightFormat::q8_0},
    {10, "Q2_K", DType::u8, WeightFormat::q2_k},
    {11, "Q3_K", DType::u8, WeightFormat::q3_k},
    {12, "Q4_K", DType::u8, WeightFormat::q4_k},
    {13, "Q5_K", DType::u8, WeightFormat::q5_k},
    {14, "Q6_K", DType::u8, WeightFormat::q6_k},
    {20, "IQ4_NL", DType::u8, WeightFormat::iq4_nl},
    {23, "IQ4_XS", DType::u8, WeightFormat::iq4_xs},
    {24, "I8", DType::i8},
    {25, "I16", DType::i16},
    {26, "I32", DType::i32},
    {27, "I64", DType::i64},
    {28, "F64", DType::f64},
}};

std::string known_types() {
  std::vector<std::string_view> names;
  for (const TensorType& type : kTensorTypes) names.push_back(type.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The numbers and texts of a header, one after the other.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const fs::path& file) : bytes_(bytes), file_(file) {}

  size_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  template <class T>
  T number(const char* what) {
    T value{};
    std::memcpy(&value, take(sizeof value, what), sizeof value);
    return value;
  }

  /// `what` for errors: what the text is.
  std::string text(const char* what, uint64_t longest) {
    const auto length = number<uint64_t>(what);
    check(length <= longest, "{}: byte {}: {} of {} bytes, at most {} allowed", file_.string(), at_, what, length,
          longest);
    check(length <= left(), "{}: byte {}: {} of {} bytes, but {} are left (is it truncated?)", file_.string(), at_,
          what, length, left());
    return {reinterpret_cast<const char*>(take(length, what)), length};
  }

  /// A text that names something.
  std::string name(const char* what) {
    std::string text_of_name = text(what, kLongestName);
    const bool printable = std::ranges::all_of(text_of_name, [](char c) { return c > ' ' && c <= '~'; });
    check(printable && !text_of_name.empty(), "{}: byte {}: {} is {}; printable characters are needed", file_.string(),
          at_, what, shown(text_of_name));
    return text_of_name;
  }

 private:
  const std::byte* take(uint64_t count, const char* what) {
    check(count <= left(), "{}: ends within {} at byte {} (is it truncated?)", file_.string(), what, bytes_.size());
    const std::byte* taken = bytes_.data() + at_;
    at_ += count;
    return taken;
  }

  std::span<const std::byte> bytes_;
  const fs::path& file_;
  size_t at_ = 0;
};

/// Turns the header of one file into entries.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, const fs::path& file) : bytes_(bytes), file_(file), in_(bytes, file) {}

  GgufHeader read() {
    check(is_gguf(bytes_), "{}: does not begin with {}", file_.string(), kMagic);
    in_.number<uint32_t>("the magic number");
    const auto version = in_.number<uint32_t>("the version");
    check(version == 2 || version == 3, "{}: GGUF version {}; 2 and 3 work{}", file_.string(), version,
          version > 0xffff ? " (is it big-endian?)" : "");
    const uint64_t tensors = count("tensors", 24);  // the least bytes of an entry
    const uint64_t pairs = count("metadata entries", 13);
    for (uint64_t i = 0; i < pairs; ++i) read_pair();
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensors; ++i) offsets.push_back(read_entry());
    place(offsets);
    return std::move(header_);
  }

 private:
  uint64_t count(const char* what, uint64_t least_bytes) {
    const auto n = in_.number<uint64_t>(what);
    check(n <= in_.left() / least_bytes, "{}: {} {}, more than its {} bytes can hold", file_.string(), n, what,
          bytes_.size());
    return n;
  }

  void read_pair() {
    const std::string key = in_.name("a metadata key");
    const auto type = in_.number<uint32_t>("a metadata type");
    check(!header_.metadata.contains(key), "{}: metadata {} is given twice", file_.string(), key);
    header_.metadata[key] = type == kArray ? array(key) : value(type, key);
  }

  json array(const std::string& key) {
    const auto type = in_.number<uint32_t>("the type of an array");
    const auto n = in_.number<uint64_t>("the length of an array");
    check(n <= std::min(in_.left(), kMostValues),
          "{}: metadata {} is an array of {}, but {} bytes are left and {} allowed", file_.string(), key, n, in_.left(),
          kMostValues);
    json all = json::array();
    for (uint64_t i = 0; i < n; ++i) all.push_back(value(type, key));
    return all;
  }

  /// A value of any type but arrays; the numbers are the format's.
  json value(uint32_t type, const std::string& key) {
    const char* what = "a metadata value";
    switch (type) {
      case 0:
        return in_.number<uint8_t>(what);
      case 1:
        return in_.number<int8_t>(what);
      case 2:
        return in_.number<uint16_t>(what);
      case 3:
        return in_.number<int16_t>(what);
      case 4:
        return in_.number<uint32_t>(what);
      case 5:
        return in_.number<int32_t>(what);
      case 6:
        return in_.number<float>(what);
      case 7:
        return in_.number<uint8_t>(what) != 0;
      case 8:
        return in_.text("a metadata text", UINT64_MAX);
      case 10:
        return in_.number<uint64_t>(what);
      case 11:
        return in_.number<int64_t>(what);
      case 12:
        return in_.number<double>(what);
      default:
        fail("{}: metadata {} has value type {}; 0 to 12 are known, and arrays hold no arrays", file_.string(), key,
             type);
    }
  }

  /// Adds an entry without its place and returns its offset.
  uint64_t read_entry() {
    GgufEntry e;
    e.name = in_.name("a tensor name");
    const std::string where = fmt::format("{}: tensor {}", file_.string(), shown(e.name));
    const auto axes = in_.number<uint32_t>("the axes of a tensor");
    check(1 <= axes && axes <= kMostAxes, "{}: has {} axes, 1 to {} are needed", where, axes, kMostAxes);
    std::vector<int64_t> dims;
    for (uint32_t i = 0; i < axes; ++i) dims.insert(dims.begin(), in_.number<int64_t>("the sizes of a tensor"));
    const auto number = in_.number<uint32_t>("the type of a tensor");
    const auto offset = in_.number<uint64_t>("the offset of a tensor");
    const auto type = std::ranges::find(kTensorTypes, number, &TensorType::number);
    check(type != kTensorTypes.end(), "{}: has type {}; {} work", where, number, known_types());
    e.dtype = type->dtype;
    e.blocks = type->blocks;
    e.shape = shape_of(*type, with_original_shape(e.name, dims, where), where);
    header_.entries.push_back(std::move(e));
    return offset;
  }

  int64_t checked_count(const std::vector<int64_t>& dims, int64_t bytes, const std::string& where) const {
    int64_t all = bytes;
    for (const int64_t d : dims)
      check(d > 0 && !__builtin_mul_overflow(all, d, &all),
            "{}: has sizes {}; positive ones that fit a file are needed", where, fmt::join(dims, ", "));
    return all / bytes;
  }

  /// The shape that a tensor had before it was flattened for the file, where the metadata tell one.
  std::vector<int64_t> with_original_shape(const std::string& name, const std::vector<int64_t>& dims,
                                           const std::string& where) const {
    const std::string key = std::string(kShape) + name;
    const int64_t numbers = checked_count(dims, 1, where);
    if (!header_.metadata.contains(key)) return dims;
    const std::vector<int64_t> original =
        JsonFile(file_, header_.metadata).integers(key, 1, std::numeric_limits<int64_t>::max());
    check(!original.empty() && original.size() <= Shape::kMaxRank && checked_count(original, 1, where) == numbers,
          "{}: has sizes {}, but metadata {} says {}", where, fmt::join(dims, ", "), key, fmt::join(original, ", "));
    return original;
  }

  Shape shape_of(const TensorType& type, const std::vector<int64_t>& dims, const std::string& where) const {
    checked_count(dims, type.bytes(), where);
    check(dims.back() % type.numbers() == 0, "{}: is {} with rows of {} numbers; multiples of {} are needed", where,
          type.name, dims.back(), type.numbers());
    if (!type.blocks) return Shape(dims);
    return {checked_count(dims, 1, where) / dims.back(), dims.back() / type.numbers() * type.bytes()};
  }

  uint64_t alignment() const {
    if (!header_.metadata.contains(kAlignment)) return kDefaultAlignment;
    const JsonFile metadata(file_, header_.metadata);
    const auto found = static_cast<uint64_t>(metadata.integer(kAlignment, 1, kMostAlignment));
    if ((found & (found - 1)) != 0) metadata.refuse(kAlignment, "a power of two");
    return found;
  }

  /// Offsets count from the first aligned byte behind the header.
  void place(const std::vector<uint64_t>& offsets) {
    const uint64_t unit = alignment();
    const uint64_t data = (in_.at() + unit - 1) / unit * unit;
    for (size_t i = 0; i < offsets.size(); ++i) {
      GgufEntry& e = header_.entries[i];
      const auto bytes = static_cast<uint64_t>(e.shape.count()) * size_of(e.dtype);
      const uint64_t room = bytes_.size() > data ? bytes_.size() - data : 0;
      check(offsets[i] % unit == 0, "{}: tensor {}: begins at offset {}, a multiple of {} is needed", file_.string(),
            shown(e.name), offsets[i], unit);
      check(offsets[i] <= room && bytes <= room - offsets[i],
            "{}: tensor {}: {} bytes from offset {}, but the file holds {} bytes of data (is it truncated?)",
            file_.string(), shown(e.name), bytes, offsets[i], room);
      e.begin = data + offsets[i];
      e.end = e.begin + bytes;
    }
    std::ranges::stable_sort(header_.entries, {}, &GgufEntry::begin);
    check_cover(data, unit);
  }

  void check_cover(uint64_t begin, uint64_t unit) const {
    uint64_t end = begin;
    const GgufEntry* before = nullptr;
    for (const GgufEntry& e : header_.entries) {
      check(e.begin >= end, "{}: tensors {} and {} overlap: one ends at byte {} of the file, the next begins at {}",
            file_.string(), shown(before != nullptr ? before->name : ""), shown(e.name), end, e.begin);
      check(e.begin - end < unit, "{}: {} bytes before tensor {} belong to no tensor", file_.string(), e.begin - end,
            shown(e.name));
      end = e.end;
      before = &e;
    }
    check(bytes_.size() < end + unit || header_.entries.empty(), "{}: the last {} bytes belong to no tensor",
          file_.string(), bytes_.size() - end);
  }

  static constexpr uint32_t kArray = 9;

  std::span<const std::byte> bytes_;
  const fs::path& file_;
  Cursor in_;
  GgufHeader header_{.entries = {}, .metadata = json::object()};
};

}  // namespace

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

GgufHeader parse_gguf(std::span<const std::byte> bytes, const fs::path& file) {
  return HeaderReader(bytes, file).read();
}

GgufFile read_gguf(const fs::path& path) {
  const auto buffer = map_file(path);
  GgufHeader header = parse_gguf({static_cast<const std::byte*>(buffer->data), buffer->bytes}, path);
  GgufFile file{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const GgufEntry& e : header.entries) {
    const Tensor data = view_or_copy(buffer, e.begin, e.shape, e.dtype);
    check(file.tensors.try_emplace(e.name, StoredTensor{data, path, e.name, e.blocks}).second,
          "{}: tensor {} is given twice", path.string(), shown(e.name));
  }
  return file;
}

}  // namespace inkstone
