// The safetensors format: u64 header length, JSON header, data. https://github.com/huggingface/safetensors
#pragma once
#include <stop_token>
#include <vector>

#include "io/stored_tensor.h"

namespace inkstone {

struct SafetensorsFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  ///< the header's __metadata__
};

/// One tensor of a header; its bytes are [begin, end) of the file.
struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  size_t begin = 0;
  size_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< in the order of their bytes
  std::map<std::string, std::string> metadata;
};

/// Whether a file begins as safetensors does: a length, then a JSON object. Files too short to tell may be truncated.
bool may_be_safetensors(std::span<const std::byte> bytes);

/// What a foreign file begins with, for an error.
std::string shown_beginning(std::span<const std::byte> bytes);

/// Checks a whole file: header length, JSON, dtypes, shapes, offsets within the data, sizes that agree with shape and
/// dtype, no overlaps, no gaps, no duplicate names. Throws Error that names `file`, tensor and what is wrong.
SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, const std::filesystem::path& file);

/// Maps a file and checks it with parse_safetensors. Tensors share the mapping; one whose data is not aligned to its
/// element size is copied.
SafetensorsFile read_safetensors(const std::filesystem::path& path);

/// Gives entries (name, dtype and shape) their places, so that all data is aligned: wide elements first, among equals
/// in the order there is. Returns what a file begins with; `begin` and `end` count from the beginning of that file.
std::string place_safetensors(std::vector<SafetensorsEntry>& entries,
                              const std::map<std::string, std::string>& metadata);

/// Writes host tensors to a temporary name in the same folder, then renames. Wide elements come first, so that all data
/// is aligned; among equals the order is by name. Throws Cancelled soon after a stop request of `stop`.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {}, std::stop_token stop = {});

}  // namespace inkstone
